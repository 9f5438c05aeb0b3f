"""What the rows of a file have shown: how many, which types, which labels and tags. Imports no torch."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from pruning.data.examples import AnyExample, Label, Question, class_name
from pruning.data.limits import LIMITS, Row, broken
from pruning.errors import InvalidData
from pruning.spec import Columns

MAX_CLASSES = 1000
MAX_LABEL_CHARACTERS = 200
"""So that a file of long texts in place of labels is not kept in memory."""
_KINDS = {bool: "boolean", int: "integer", float: "number", str: "text", list: "list", dict: "object"}
_PREFIX = re.compile(r"^[BIESLU]-")


@dataclass
class Scan:
    """What the rows of one file have shown so far; `learnt` is the field of `Columns` that names what is learnt."""

    path: Path
    learnt: str
    rows: int = 0
    characters: int = 0
    answered: int = 0
    unanswered: int = 0
    types: dict[str, str] = field(default_factory=dict)
    labels: dict[Label, int] = field(default_factory=dict)  # label -> line of its first row
    numeric: bool = True
    whole: bool = True

    @property
    def noun(self) -> str:
        """What a label is called."""
        return "tag" if self.learnt == "tags" else "label"

    def add(self, number: int, row: Row, found: AnyExample) -> None:
        """Take one row, and the example it holds, into account; labels of a test split do not count."""
        self.rows += 1
        self.characters += found.characters
        self._add_types(number, row)
        if self.path.stem == "test":
            return
        if isinstance(found, Question):
            self.answered += bool(found.answers)
            self.unanswered += not found.answers
        for label in found.labels:
            self._add_label(number, label)

    def _add_types(self, number: int, row: Row) -> None:
        for column, value in row.items():
            kind = "null" if value is None else _KINDS.get(type(value), "other")
            known = self.types.setdefault(column, kind)
            if known != kind and kind != "null":
                self.types[column] = kind if known == "null" else "mixed"
        if len(self.types) > LIMITS.columns:
            problem = f"the file has more than {LIMITS.columns} columns by now"
            raise broken(self.path, number, problem, "Keep text and label columns only.")

    def _add_label(self, number: int, value: Label) -> None:
        if value in self.labels:
            return
        if len(str(value)) > MAX_LABEL_CHARACTERS:
            problem = f"the {self.noun} is longer than {MAX_LABEL_CHARACTERS} characters"
            remedy = f"Name the column that holds the {self.noun}."
            raise broken(self.path, number, problem, remedy, param=f"/columns/{self.learnt}")
        first = next(iter(self.labels), value)
        if isinstance(value, str) != isinstance(first, str):
            problem = (
                f"the {self.noun} {value!r} mixes texts and numbers; an earlier {self.noun} is {first!r}"
            )
            remedy = f"Write all {self.noun}s as texts or all as numbers."
            raise broken(self.path, number, problem, remedy, param=f"/columns/{self.learnt}")
        as_number = _number(value)
        self.numeric = self.numeric and as_number is not None
        self.whole = self.whole and as_number is not None and as_number.is_integer()
        if len(self.labels) <= MAX_CLASSES:
            self.labels[value] = number


def learnt_field(columns: Columns) -> str:
    """The field of `columns` that names what is to be learnt."""
    if columns.tags is not None:
        return "tags"
    if columns.answers is not None:
        return "answers"
    return "text" if columns.label is None else "label"


def classes(train: Scan, validation: Scan | None) -> tuple[tuple[str, ...] | None, bool]:
    """The class names in order, or None for real numbers, answers and lines; and whether all labels are numbers."""
    if train.learnt == "answers":
        _check_answered(train)
        return None, False
    if train.learnt == "text":
        _check_filled(train)
        return None, False
    scans = [train, validation] if validation else [train]
    numeric = all(scan.numeric for scan in scans)
    param, noun = f"/columns/{train.learnt}", train.noun
    if len(train.labels) < 2:
        every = "token" if noun == "tag" else "row"
        problem = f"Every {every} of {train.path.name} has the {noun} {next(iter(train.labels))!r}."
        raise InvalidData(problem, param=param, remedy=f"A task needs at least two different {noun}s.")
    many = any(len(scan.labels) > MAX_CLASSES for scan in scans)
    if numeric and noun == "label" and (many or not all(scan.whole for scan in scans)):
        return None, True
    if many:
        problem = f"The {noun} column of {train.path.name} has more than {MAX_CLASSES} classes."
        raise InvalidData(problem, param=param, remedy=f"Name the column that holds the {noun}.")
    if validation and not numeric:
        _check_known(train, validation)
    names = {str(class_name(value, numeric=numeric)) for scan in scans for value in scan.labels}
    return tuple(sorted(names, key=int if numeric else str)), numeric


def _check_answered(train: Scan) -> None:
    if not train.answered:
        problem = f"No question of {train.path.name} has an answer."
        raise InvalidData(problem, param="/columns/answers", remedy="Name the column that holds the answers.")


def _check_filled(train: Scan) -> None:
    if train.characters <= train.rows:  # a line's newline counts
        problem = f"{train.path.name} has no text."
        raise InvalidData(problem, param="/columns/text", remedy="Name the column that holds the text.")


def _check_known(train: Scan, validation: Scan) -> None:
    """Refuse a label that no training row has; of tags only the type counts, since I-PER may be rarer than B-PER."""
    known, noun = {_type(train, value) for value in train.labels}, validation.noun
    for value, number in validation.labels.items():
        if _type(validation, value) not in known:
            problem = f"no training row has the {noun} {value!r}"
            remedy = f"Correct the {noun} or add training rows."
            raise broken(validation.path, number, problem, remedy, param=f"/columns/{validation.learnt}")


def _type(scan: Scan, value: Label) -> str:
    return _PREFIX.sub("", str(value), count=1) if scan.learnt == "tags" else str(value)


def _number(value: Label) -> float | None:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
