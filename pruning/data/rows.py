"""What a dataset folder holds: its columns, splits and classes, checked row by row. Imports no torch.

The API summarises a dataset when it is uploaded; the engine reads its examples by the same rules.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field

from pruning.data.columns import ColumnNames, class_name, infer_columns, label_cell, text_cell
from pruning.data.readers import LIMITS, Limits, Row, broken, find_splits, read
from pruning.errors import InvalidData
from pruning.spec import Columns, Model

MAX_CLASSES = 1000
_ROWS_BETWEEN_BEATS = 1000
_KINDS = {bool: "boolean", int: "integer", float: "number", str: "text", list: "list", dict: "object"}


class DataSummary(Model):
    """What `summarise` found in a dataset folder.

    `splits` is rows by split, `columns` is value type by column, `sha256` is by file name. `text`,
    `text_pair` and `label` are column names. `classes` are the class names in order (integers by value, texts
    by name), or None when the labels are real numbers; `numeric_label` says that every label is a number, so
    that a regression is possible. `mean_characters` counts both texts of a pair.
    """

    splits: dict[str, int]
    columns: dict[str, str]
    text: str
    text_pair: str | None = None
    label: str
    classes: tuple[str, ...] | None = None
    numeric_label: bool = False
    mean_characters: float = Field(ge=0)
    sha256: dict[str, str]


@dataclass(frozen=True)
class Example:
    """One text or pair of texts with its label: a class name, or a number when it is not a whole one.

    Rows of a `test` split may have no label.
    """

    text: str
    text_pair: str | None
    label: str | float | None


def summarise(
    folder: Path,
    columns: Columns | None = None,
    limits: Limits = LIMITS,
    beat: Callable[[], object] = lambda: None,
) -> DataSummary:
    """Check every row of a dataset folder and say what it holds; streams, so memory stays bounded.

    `beat` is called now and then and may raise to stop.

    Raises InvalidData that names the file and line: a missing column, an empty text, a missing label, labels
    that mix texts and numbers, a training file with one class, a class that only the validation file has.
    """
    paths = find_splits(folder)
    names: ColumnNames | None = None
    scans: dict[str, _Scan] = {}
    for split, path in paths.items():
        scan = scans[split] = _Scan(path)
        for number, row in read(path, limits):
            if scan.rows % _ROWS_BETWEEN_BEATS == 0:
                beat()
            names = names or infer_columns(row, columns or Columns())
            scan.add(number, row, names, labelled=split != "test")
        if not scan.rows:
            raise InvalidData(f"{path.name} has no rows.", remedy="Add rows or remove the file.")
    if names is None:
        raise InvalidData("The dataset has no rows.", remedy="Add rows.")
    classes, numeric = _classes(scans["train"], scans.get("validation"))
    rows = sum(scan.rows for scan in scans.values())
    return DataSummary(
        splits={split: scan.rows for split, scan in scans.items()},
        columns=scans["train"].types,
        text=names.text,
        text_pair=names.text_pair,
        label=names.label,
        classes=classes,
        numeric_label=numeric,
        mean_characters=round(sum(scan.characters for scan in scans.values()) / rows, 3),
        sha256={path.name: _sha256(path) for path in paths.values()},
    )


def examples(path: Path, summary: DataSummary, limits: Limits = LIMITS) -> Iterator[Example]:
    """Yield the examples of one file of a summarised dataset, in order."""
    for number, row in read(path, limits):
        text = text_cell(path, number, row, summary.text)
        pair = None if summary.text_pair is None else text_cell(path, number, row, summary.text_pair)
        label = None
        if path.stem != "test" or row.get(summary.label) not in (None, ""):
            value = label_cell(path, number, row, summary.label)
            label = class_name(value, numeric=summary.numeric_label)
        yield Example(text, pair, label)


@dataclass
class _Scan:
    """What the rows of one file have shown so far."""

    path: Path
    rows: int = 0
    characters: int = 0
    types: dict[str, str] = field(default_factory=dict)
    labels: dict[str | float, int] = field(default_factory=dict)  # label -> line of its first row
    numeric: bool = True
    whole: bool = True

    def add(self, number: int, row: Row, names: ColumnNames, *, labelled: bool) -> None:
        self.rows += 1
        self.characters += len(text_cell(self.path, number, row, names.text))
        if names.text_pair is not None:
            self.characters += len(text_cell(self.path, number, row, names.text_pair))
        for column, value in row.items():
            kind = "null" if value is None else _KINDS.get(type(value), "other")
            known = self.types.setdefault(column, kind)
            if known != kind and kind != "null":
                self.types[column] = kind if known == "null" else "mixed"
        if len(self.types) > LIMITS.columns:
            problem = f"the file has more than {LIMITS.columns} columns by now"
            raise broken(self.path, number, problem, "Keep text and label columns only.")
        if labelled:
            self._add_label(number, label_cell(self.path, number, row, names.label))

    def _add_label(self, number: int, value: str | float) -> None:
        first = next(iter(self.labels), value)
        if isinstance(value, str) != isinstance(first, str):
            problem = f"the label {value!r} mixes texts and numbers; an earlier label is {first!r}"
            remedy = "Write all labels as texts or all as numbers."
            raise broken(self.path, number, problem, remedy, param="/columns/label")
        as_number = _number(value)
        self.numeric = self.numeric and as_number is not None
        self.whole = self.whole and as_number is not None and as_number.is_integer()
        if len(self.labels) <= MAX_CLASSES:
            self.labels.setdefault(value, number)


def _classes(train: _Scan, validation: _Scan | None) -> tuple[tuple[str, ...] | None, bool]:
    """The class names in order, or None for real numbers; and whether all labels are numbers."""
    scans = [train, validation] if validation else [train]
    numeric = all(scan.numeric for scan in scans)
    if len(train.labels) < 2:
        problem = f"Every row of {train.path.name} has the label {next(iter(train.labels))!r}."
        raise InvalidData(
            problem, param="/columns/label", remedy="A task needs at least two different labels."
        )
    many = any(len(scan.labels) > MAX_CLASSES for scan in scans)
    if numeric and (many or not all(scan.whole for scan in scans)):
        return None, True
    if many:
        problem = f"The label column has more than {MAX_CLASSES} classes."
        raise InvalidData(problem, param="/columns/label", remedy="Name the column that holds the label.")
    if validation and not numeric:
        _check_known(train, validation)
    names = {str(class_name(value, numeric=numeric)) for scan in scans for value in scan.labels}
    return tuple(sorted(names, key=int if numeric else str)), numeric


def _check_known(train: _Scan, validation: _Scan) -> None:
    for value, number in validation.labels.items():
        if value not in train.labels:
            problem = f"no training row has the label {value!r}"
            remedy = "Correct the label or add training rows."
            raise broken(validation.path, number, problem, remedy, param="/columns/label")


def _number(value: str | float) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
