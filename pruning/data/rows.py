"""What a dataset folder holds: its columns, splits and classes, checked row by row. Imports no torch.

The API summarises a dataset when it is uploaded; the engine reads its examples by the same rules.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import Field

from pruning.data.cells import example
from pruning.data.columns import Layout, infer_columns, layout_of
from pruning.data.examples import AnyExample
from pruning.data.limits import LIMITS, Limits
from pruning.data.readers import find_splits, read
from pruning.data.scan import Scan, classes, learnt_field
from pruning.errors import InvalidData
from pruning.spec import Columns

_ROWS_BETWEEN_BEATS = 1000


class DataSummary(Columns):
    """What `summarise` found in a dataset folder; it begins with the names of the columns in use.

    `splits` is rows by split, `columns` is value type by column, `sha256` is by file name. `classes` are the
    names of labels or tags in order (integers by value, texts by name), or None when the labels are real numbers or
    answers or there are none; `numeric_label` says that every label is a number, so that a regression is possible.
    `unanswerable` says that some questions have no answer. `mean_characters` counts all texts of a row.
    """

    splits: dict[str, int]
    columns: dict[str, str]
    classes: tuple[str, ...] | None = None
    numeric_label: bool = False
    unanswerable: bool = False
    mean_characters: float = Field(ge=0)
    sha256: dict[str, str]

    @property
    def named(self) -> Columns:
        """The columns in use."""
        return Columns(**{name: getattr(self, name) for name in Columns.model_fields})

    @property
    def layout(self) -> Layout:
        """What a row is."""
        found = layout_of(self.named) or "text"
        return "lines" if found == "text" and self.label is None else found


def summarise(
    folder: Path,
    columns: Columns | None = None,
    limits: Limits = LIMITS,
    beat: Callable[[], object] = lambda: None,
) -> DataSummary:
    """Check every row of a dataset folder and say what it holds; streams, so memory stays bounded.

    `beat` is called now and then and may raise to stop.

    Raises InvalidData that names the file and line: a missing column, an empty text, a missing label, labels
    that mix texts and numbers, a training file with one class, a class that only the validation file has, tags
    that are not as many as the tokens, an answer that does not stand in the context where it says, a training file
    without any text.
    """
    paths = find_splits(folder)
    names: Columns | None = None
    scans: dict[str, Scan] = {}
    for split, path in paths.items():
        for number, row in read(path, limits):
            names = names or infer_columns(row, columns or Columns())
            if split not in scans:
                scans[split] = Scan(path, learnt_field(names))
            scan = scans[split]
            if scan.rows % _ROWS_BETWEEN_BEATS == 0:
                beat()
            scan.add(number, row, example(path, number, row, names))
        if split not in scans:
            raise InvalidData(f"{path.name} has no rows.", remedy="Add rows or remove the file.")
    if names is None:
        raise InvalidData("The dataset has no rows.", remedy="Add rows.")
    class_names, numeric = classes(scans["train"], scans.get("validation"))
    rows = sum(scan.rows for scan in scans.values())
    return DataSummary(
        **names.model_dump(),
        splits={split: scan.rows for split, scan in scans.items()},
        columns=scans["train"].types,
        classes=class_names,
        numeric_label=numeric,
        unanswerable=any(scan.unanswered for scan in scans.values()),
        mean_characters=round(sum(scan.characters for scan in scans.values()) / rows, 3),
        sha256={path.name: _sha256(path) for path in paths.values()},
    )


def examples(path: Path, summary: DataSummary, limits: Limits = LIMITS) -> Iterator[AnyExample]:
    """Yield the examples of one file of a summarised dataset, in order."""
    columns = summary.named
    for number, row in read(path, limits):
        yield example(path, number, row, columns).named(numeric=summary.numeric_label)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
