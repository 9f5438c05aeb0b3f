"""Which columns of a dataset are used, by the names given or the usual names. Imports no torch.

Rows have one of four layouts: a text (or a pair) with a label, tokens with tags, a question about a context, or a
line of plain text.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pruning.data.limits import Row
from pruning.errors import InvalidData
from pruning.spec import Columns

Layout = Literal["text", "tokens", "questions", "lines"]

PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "passage"),
    ("text", "text_pair"),
    ("text1", "text2"),
    ("text_a", "text_b"),
)
TEXTS = ("sentence", "text", "content", "review", "question", "body", "document", "tweet", "utterance")
LABELS = ("label", "labels", "class", "category", "target", "score", "similarity_score", "rating", "intent")
TOKENS = ("tokens", "words")
TAGS = ("ner_tags", "tags", "labels")
STARTS = ("answer_starts", "answer_start")

_FIELDS: Mapping[Layout, frozenset[str]] = MappingProxyType(
    {
        "text": frozenset({"text", "text_pair", "label"}),
        "tokens": frozenset({"tokens", "tags"}),
        "questions": frozenset({"context", "question", "answers", "answer_starts"}),
    }
)


def layout_of(columns: Columns) -> Layout | None:
    """The layout that the named columns belong to, None when none is named; raises InvalidData for a mixture.

    Text may be that of `lines` too: the label, named or not, makes the difference.
    """
    named = columns.model_dump(include=set(Columns.model_fields), exclude_none=True).keys()
    found = [layout for layout, fields in _FIELDS.items() if fields & named]
    if len(found) > 1:
        raise InvalidData(
            f"columns names {' and '.join(sorted(named))}, which belong to different kinds of rows.",
            param="/columns",
            remedy="Name text and label, or tokens and tags, or context, question and answers.",
        )
    return found[0] if found else None


def infer_columns(row: Row, columns: Columns) -> Columns:
    """The columns in use, by the names given, else by the usual names; raises InvalidData that names the field."""
    for field, name in columns.model_dump(exclude_none=True).items():
        if name not in row:
            raise _no_column(f"The dataset has no column {name!r}.", row, field)
    usual = {name.lower(): name for name in row}
    layout = layout_of(columns) or _usual_layout(row, usual)
    if layout == "tokens":
        return _tokens(row, columns, usual)
    if layout == "questions":
        return _questions(row, columns, usual)
    return _text(row, columns, usual)


def _usual_layout(row: Row, usual: Mapping[str, str]) -> Layout:
    if {"context", "question", "answers"} <= usual.keys():
        return "questions"
    tokens, tags = _first(TOKENS, usual), _first(TAGS, usual)
    if tokens is None or tags is None:
        return "text"
    lists = isinstance(row[tokens], list) or isinstance(row[tags], list)
    return "tokens" if lists or _first(LABELS, usual) is None else "text"


def _text(row: Row, columns: Columns, usual: Mapping[str, str]) -> Columns:
    label = columns.label or _first(LABELS, usual)
    if label is None:
        return _lines(row, columns, usual)
    if columns.text is not None:
        return Columns(text=columns.text, text_pair=columns.text_pair, label=label)
    for first, second in PAIRS:
        if first in usual and second in usual and columns.text_pair in (None, usual[second]):
            return Columns(text=usual[first], text_pair=usual[second], label=label)
    text = _first(TEXTS, usual) or _only_text(row, label)
    if text is None:
        raise _no_column("No column of the dataset has a usual name for text.", row, "text")
    return Columns(text=text, text_pair=columns.text_pair, label=label)


def _lines(row: Row, columns: Columns, usual: Mapping[str, str]) -> Columns:
    """Text without a label; a pair of texts has no use without one."""
    pair = columns.text is None and any({first, second} <= usual.keys() for first, second in PAIRS)
    text = columns.text or _first(TEXTS, usual) or _only_text(row)
    if columns.text_pair is not None or pair or text is None:
        raise _no_column("The dataset has no label column.", row, "label")
    return Columns(text=text)


def _tokens(row: Row, columns: Columns, usual: Mapping[str, str]) -> Columns:
    tokens = columns.tokens or _first(TOKENS, usual)
    if tokens is None:
        raise _no_column("The dataset has no column of tokens.", row, "tokens")
    tags = columns.tags or _first(TAGS, usual)
    if tags is None:
        raise _no_column("The dataset has no column of tags.", row, "tags")
    return Columns(tokens=tokens, tags=tags)


def _questions(row: Row, columns: Columns, usual: Mapping[str, str]) -> Columns:
    found = {}
    for field in ("context", "question", "answers"):
        found[field] = getattr(columns, field) or usual.get(field)
        if found[field] is None:
            raise _no_column(f"The dataset has no {field} column.", row, field)
    return Columns(**found, answer_starts=columns.answer_starts or _first(STARTS, usual))


def _first(names: tuple[str, ...], usual: Mapping[str, str]) -> str | None:
    return next((usual[name] for name in names if name in usual), None)


def _only_text(row: Row, label: str | None = None) -> str | None:
    texts = [name for name, value in row.items() if isinstance(value, str) and name != label]
    return texts[0] if len(texts) == 1 else None


def _no_column(problem: str, row: Row, field: str) -> InvalidData:
    remedy = f"Its columns are {', '.join(sorted(row)):.1000}; name one in columns.{field} or rename it."
    return InvalidData(problem, param=f"/columns/{field}", remedy=remedy)
