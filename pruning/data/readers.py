"""Reading a dataset's files row by row: JSONL, CSV and Parquet, bounded in memory. Imports no torch.

Every problem is an `InvalidData` that names the file and the line (the row, for Parquet) and says what to do.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pruning.data.limits import LIMITS, Limits, Row, broken
from pruning.data.parquet import read_parquet
from pruning.data.text_files import read_csv, read_jsonl
from pruning.errors import InvalidData

SPLITS = ("train", "validation", "test")
SUFFIXES = (".jsonl", ".csv", ".parquet")
_SURROGATE = re.compile("[\ud800-\udfff]")


def find_splits(folder: Path) -> dict[str, Path]:
    """The data files of a dataset folder by split name; `train` must be there and each split is one file."""
    found: dict[str, Path] = {}
    for split in SPLITS:
        paths = [path for suffix in SUFFIXES if (path := folder / f"{split}{suffix}").is_file()]
        if len(paths) > 1:
            names = " and ".join(path.name for path in paths)
            raise InvalidData(f"One split has several files: {names}.", remedy="Keep one of them.")
        if paths:
            found[split] = paths[0]
    if "train" not in found:
        raise InvalidData("The dataset has no training file.", remedy="Add train.jsonl, .csv or .parquet.")
    return found


def read(path: Path, limits: Limits = LIMITS) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row) of a file, one row at a time.

    A CSV row's number is the line on which it starts; its values are text. Raises InvalidData for anything
    that is not a row: broken JSON, a wrong number of fields, not UTF-8, an empty line, a limit exceeded.
    """
    readers = {".jsonl": read_jsonl, ".csv": read_csv, ".parquet": read_parquet}
    reader = readers.get(path.suffix)
    if reader is None:
        raise InvalidData(f"{path.name} is not a data file.", remedy=f"Use one of {', '.join(SUFFIXES)}.")
    for count, (number, row) in enumerate(reader(path, limits), start=1):
        if count > limits.rows:
            raise broken(path, number, f"the file has more than {limits.rows:,} rows", "Send fewer rows.")
        _check_texts(path, number, row, limits)
        yield number, row


def _check_texts(path: Path, number: int, row: Row, limits: Limits) -> None:
    """Refuse texts that no database or tokenizer takes, and names of columns as long as texts."""
    values: list[Any] = list(row.values())
    if sum(map(len, row)) > limits.name_characters:
        problem = f"the names of the columns are longer than {limits.name_characters:,} characters together"
        raise broken(path, number, problem, "Shorten them.")
    values.extend(row)
    while values:
        value = values.pop()
        if isinstance(value, str):
            if "\0" in value:
                raise broken(path, number, "a text has a NUL character", "Remove it.")
            if not value.isascii() and _SURROGATE.search(value):
                raise broken(path, number, "a text has half a surrogate pair", "Remove it.")
        elif isinstance(value, dict):
            values.extend(value)
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)
