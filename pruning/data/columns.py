"""Which columns of a dataset are text and label, and what their cells hold. Imports no torch."""

import math
from dataclasses import dataclass
from pathlib import Path

from pruning.data.readers import Row, broken
from pruning.errors import InvalidData
from pruning.spec import Columns

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


@dataclass(frozen=True)
class ColumnNames:
    """The columns in use; `text_pair` is None when rows hold single texts."""

    text: str
    text_pair: str | None
    label: str


def infer_columns(row: Row, columns: Columns) -> ColumnNames:
    """The columns by the names given, else by the usual names; raises InvalidData that names the field."""
    for field, name in columns.model_dump().items():
        if name is not None and name not in row:
            raise _no_column(f"The dataset has no column {name!r}.", row, field)
    lower = {name.lower(): name for name in row}
    label = columns.label or next((lower[name] for name in LABELS if name in lower), None)
    if label is None:
        raise _no_column("The dataset has no label column.", row, "label")
    if columns.text is not None:
        return ColumnNames(columns.text, columns.text_pair, label)
    for first, second in PAIRS:
        if first in lower and second in lower and columns.text_pair in (None, lower[second]):
            return ColumnNames(lower[first], lower[second], label)
    text = next((lower[name] for name in TEXTS if name in lower), None) or _only_text(row, label)
    if text is None:
        raise _no_column("No column of the dataset has a usual name for text.", row, "text")
    return ColumnNames(text, columns.text_pair, label)


def text_cell(path: Path, number: int, row: Row, column: str) -> str:
    """The text in a column, not blank."""
    value = row.get(column)
    if isinstance(value, str) and value.strip():
        return value
    fault = "empty" if value is None or isinstance(value, str) else "not a text"
    problem = f"the text column {column!r} is {fault}"
    raise broken(path, number, problem, "Fill it or remove the row.", param="/columns/text")


def label_cell(path: Path, number: int, row: Row, column: str) -> str | float:
    """The label in a column: a text, or a finite number (a boolean counts as 0 or 1)."""
    value = row.get(column)
    if isinstance(value, str) and value.strip():
        return value.strip()
    if isinstance(value, int | float) and math.isfinite(value):
        return int(value) if isinstance(value, bool) else value
    fault = "empty" if value is None or isinstance(value, str) else f"neither text nor number: {value!r:.40}"
    problem = f"the label column {column!r} is {fault}"
    raise broken(path, number, problem, "Give every row one label.", param="/columns/label")


def class_name(value: str | float, *, numeric: bool) -> str | float:
    """The class name of a label: "1" for 1, 1.0 and "1" when labels are numeric; 1.5 stays a number."""
    if not numeric:
        return str(value)
    number = float(value)
    return str(int(number)) if number.is_integer() else number


def _only_text(row: Row, label: str) -> str | None:
    texts = [name for name, value in row.items() if isinstance(value, str) and name != label]
    return texts[0] if len(texts) == 1 else None


def _no_column(problem: str, row: Row, field: str) -> InvalidData:
    remedy = f"Its columns are {', '.join(sorted(row))}; name one in columns.{field} or rename it."
    return InvalidData(problem, param=f"/columns/{field}", remedy=remedy)
