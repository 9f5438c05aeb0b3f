"""The cells of a row, read and checked: what becomes an example. Imports no torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pruning.data.examples import Answer, AnyExample, Example, Label, Line, Question, Tagged
from pruning.data.limits import Row, broken
from pruning.spec import Columns

MAX_NUMBER = 2**63
"""Labels that are numbers stay below: no file or database holds larger integers everywhere."""


def example(path: Path, number: int, row: Row, columns: Columns) -> AnyExample:
    """The row as an example, its labels as the file has them.

    Raises InvalidData with file and line when a cell is not what its column must hold. Only rows of a `test`
    split may lack what is to be learnt.
    """
    at = _Cells(path, number, row)
    if columns.tokens is not None and columns.tags is not None:
        tokens = at.tokens(columns.tokens)
        return Tagged(tokens, at.tags(columns.tags, tokens) if at.learnt(columns.tags) else None)
    if columns.context is not None and columns.question is not None and columns.answers is not None:
        context = at.text(columns.context, "context")
        question = at.text(columns.question, "question")
        answers = at.answers(columns, context) if at.learnt(columns.answers) else None
        return Question(question, context, answers)
    assert columns.text is not None  # noqa: S101 - the last layouts
    if columns.label is None:
        return Line(at.line(columns.text))
    text = at.text(columns.text, "text")
    pair = None if columns.text_pair is None else at.text(columns.text_pair, "text")
    return Example(text, pair, at.label(columns.label) if at.learnt(columns.label) else None)


@dataclass(frozen=True)
class _Cells:
    """The cells of one row; each method checks one and raises InvalidData."""

    path: Path
    number: int
    row: Row

    def learnt(self, column: str) -> bool:
        """Whether what is to be learnt must be there, or is."""
        return self.path.stem != "test" or self.row.get(column) not in (None, "")

    def text(self, column: str, field: str) -> str:
        """A text, not blank."""
        value = self.row.get(column)
        if isinstance(value, str) and value.strip():
            return value
        fault = "empty" if value is None or isinstance(value, str) else "not a text"
        problem = f"the {field} column {column!r} is {fault}"
        raise self._broken(problem, "Fill it or remove the row.", field)

    def line(self, column: str) -> str:
        """A text, which may be empty."""
        value = self.row.get(column)
        if isinstance(value, str):
            return value
        raise self._broken(f"the text column {column!r} is not a text", "Fill it or remove the row.", "text")

    def label(self, column: str) -> Label:
        """A text, or a finite number (a boolean counts as 0 or 1)."""
        value = self.row.get(column)
        if isinstance(value, str) and value.strip():
            return value.strip()
        if isinstance(value, int | float) and abs(value) < MAX_NUMBER:
            return int(value) if isinstance(value, bool) else value
        fault = (
            "empty" if value is None or isinstance(value, str) else f"neither text nor number: {value!r:.40}"
        )
        raise self._broken(f"the label column {column!r} is {fault}", "Give every row one label.", "label")

    def tokens(self, column: str) -> tuple[str, ...]:
        """A list of texts, at least one."""
        values = self._list(column, "tokens")
        if not values:
            raise self._broken(f"the tokens column {column!r} is empty", "Remove the row.", "tokens")
        for position, value in enumerate(values):
            if not isinstance(value, str):
                problem = f"token {position} of column {column!r} is not a text: {value!r:.40}"
                raise self._broken(problem, "Write every token as a text.", "tokens")
        return tuple(values)

    def tags(self, column: str, tokens: tuple[str, ...]) -> tuple[Label, ...]:
        """A list of names or of whole numbers, one for each token."""
        values = self._list(column, "tags")
        if len(values) != len(tokens):
            problem = f"{len(values)} tags for {len(tokens)} tokens"
            raise self._broken(problem, "Give every token one tag.", "tags")
        for position, value in enumerate(values):
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole and not (isinstance(value, str) and value.strip()):
                problem = f"tag {position} is neither a name nor a whole number: {value!r:.40}"
                raise self._broken(problem, "Give every token one tag.", "tags")
        return tuple(value.strip() if isinstance(value, str) else value for value in values)

    def answers(self, columns: Columns, context: str) -> tuple[Answer, ...]:
        """Answers that stand in the context where they say they do; none when there is no answer."""
        answers = []
        for text, start in self._pairs(columns):
            if not isinstance(text, str) or not text.strip():
                remedy = "Give an empty list to a question without an answer."
                raise self._broken(f"an answer is empty or not a text: {text!r:.40}", remedy, "answers")
            if isinstance(start, bool) or not isinstance(start, int):
                problem = f"the answer {text!r:.40} has no place in the context: {start!r:.40}"
                raise self._broken(problem, "Say for every answer at which character it starts.", "answers")
            if start < 0 or context[start : start + len(text)] != text:
                problem = f"the answer {text!r:.40} does not stand in the context at character {start}"
                raise self._broken(
                    problem, "Count characters from 0, before any change of the text.", "answers"
                )
            answers.append(Answer(text, start))
        return tuple(answers)

    def _pairs(self, columns: Columns) -> Iterator[tuple[Any, Any]]:
        """(text, start) of every answer, whichever way the file lays them out."""
        column = str(columns.answers)
        value = self.row.get(column)
        if isinstance(value, dict):  # {"text": [...], "answer_start": [...]}
            texts, starts = value.get("text"), value.get("answer_start")
        else:
            texts = self._list(column, "answers")
            if any(isinstance(each, dict) for each in texts):  # [{"text": ..., "answer_start": ...}, ...]
                dicts = [each if isinstance(each, dict) else {} for each in texts]
                texts, starts = ([each.get(key) for each in dicts] for key in ("text", "answer_start"))
            elif columns.answer_starts is not None:
                starts = self._list(columns.answer_starts, "answer_starts")
            else:
                starts = []
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) < len(starts):
            problem = f"the answers column {column!r} does not say each answer's text and start"
            remedy = 'Write {"text": [...], "answer_start": [...]}, with one start for every text.'
            raise self._broken(problem, remedy, "answers")
        return zip_longest(texts, starts)

    def _list(self, column: str, field: str) -> list[Any]:
        value = self.row.get(column)
        if isinstance(value, list):
            return value
        fault = "empty" if value in (None, "") else "not a list"
        remedy = "Fill it or remove the row."
        if self.path.suffix == ".csv":
            remedy = "A CSV file cannot hold lists: send JSONL or Parquet."
        raise self._broken(f"the {field} column {column!r} is {fault}", remedy, field)

    def _broken(self, problem: str, remedy: str, field: str) -> Exception:
        return broken(self.path, self.number, problem, remedy, param=f"/columns/{field}")
