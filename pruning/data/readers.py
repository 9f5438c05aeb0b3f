"""Reading a dataset's files row by row: JSONL, CSV and Parquet, bounded in memory. Imports no torch.

Every problem is an `InvalidData` that names the file and the line (the row, for Parquet) and says what to do.
"""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruning.data.pages import BadPage, pages_of, text_bytes
from pruning.errors import InvalidData

if TYPE_CHECKING:
    from pyarrow import DataType, RecordBatch
    from pyarrow.parquet import ParquetFile

Row = dict[str, Any]
SPLITS = ("train", "validation", "test")
SUFFIXES = (".jsonl", ".csv", ".parquet")
_BATCH_ROWS = 1024
_BATCH_BYTES = 16_000_000
_SURROGATE = re.compile("[\ud800-\udfff]")
_KEEP_PLAIN = "Keep text and label columns only."


@dataclass(frozen=True)
class Limits:
    """What one file may hold; a file beyond a limit is refused while it is read."""

    rows: int = 5_000_000
    line_bytes: int = 1_000_000
    columns: int = 256
    nesting: int = 8
    name_characters: int = 10_000
    row_group_bytes: int = 2_000_000_000
    page_bytes: int = 64_000_000
    list_values: int = 16_000_000


LIMITS = Limits()


def broken(path: Path, line: int, problem: str, remedy: str, *, param: str = "") -> InvalidData:
    """The error for one line (row, for Parquet) of a file; lines count from 1 as editors do."""
    unit = "row" if path.suffix == ".parquet" else "line"
    return InvalidData(f"{path.name}, {unit} {line}: {problem}.", remedy=remedy, param=param)


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
    readers = {".jsonl": _read_jsonl, ".csv": _read_csv, ".parquet": _read_parquet}
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


def _lines(path: Path, limits: Limits) -> Iterator[tuple[int, str]]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(limits.line_bytes + 1):
            number += 1
            if len(line) > limits.line_bytes:
                problem = f"the line is longer than {limits.line_bytes:,} bytes"
                raise broken(path, number, problem, "Shorten or split it.")
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise broken(path, number, "the text is not UTF-8", "Save the file as UTF-8.") from None
            yield number, text


def _read_jsonl(path: Path, limits: Limits) -> Iterator[tuple[int, Row]]:
    for number, text in _lines(path, limits):
        if not text.strip():
            raise broken(path, number, "the line is empty", "Remove it.")
        row = _parse_json(path, number, text)
        if not isinstance(row, dict):
            remedy = 'Write one object per line: {"text": ..., "label": ...}.'
            raise broken(path, number, "the line is not a JSON object", remedy)
        _check_size(path, number, row, limits)
        yield number, row


def _parse_json(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        problem = f"not valid JSON ({error.msg} at column {error.colno})"
        raise broken(path, number, problem, "Write one JSON object per line.") from None
    except (ValueError, RecursionError) as error:
        problem = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise broken(path, number, problem, "Write one plain JSON object per line.") from None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON value")


def _check_size(path: Path, number: int, row: Row, limits: Limits) -> None:
    if len(row) > limits.columns:
        raise broken(path, number, f"the row has more than {limits.columns} columns", _KEEP_PLAIN)
    values, depth = list(row.values()), 1
    while values := [inner for value in values for inner in _children(value)]:
        depth += 1
        if depth > limits.nesting:
            raise broken(path, number, f"values are nested deeper than {limits.nesting}", _KEEP_PLAIN)


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def _read_csv(path: Path, limits: Limits) -> Iterator[tuple[int, Row]]:
    record = 0  # characters of the record so far, which quotes may carry over many lines

    def lines() -> Iterator[str]:
        nonlocal record
        for line, text in _lines(path, limits):
            record += len(text)
            if record > limits.line_bytes:
                problem = f"the row is longer than {limits.line_bytes:,} characters"
                raise broken(path, line, problem, "Close its quotes, shorten or split it.")
            yield text

    reader = csv.reader(lines(), strict=True)
    header: list[str] | None = None
    while True:
        number, record = reader.line_num + 1, 0
        try:
            fields = next(reader, None)
        except csv.Error as error:
            remedy = 'Quote fields as "..." and double inner quotes.'
            raise broken(path, number, f"not valid CSV ({error})", remedy) from None
        if fields is None:
            return
        if not fields:
            raise broken(path, number, "the line is empty", "Remove it.")
        if header is None:
            header = _check_header(path, fields, limits)
        elif len(fields) != len(header):
            problem = f"{len(fields)} fields where the header has {len(header)}"
            raise broken(path, number, problem, "Give every line as many fields as the header.")
        else:
            yield number, dict(zip(header, fields, strict=True))


def _check_header(path: Path, names: list[str], limits: Limits) -> list[str]:
    if len(names) > limits.columns:
        raise broken(path, 1, f"the header has more than {limits.columns} columns", _KEEP_PLAIN)
    if len(set(names)) != len(names) or not all(names):
        raise broken(path, 1, "the header's column names are empty or not unique", "Name every column once.")
    return names


def _read_parquet(path: Path, limits: Limits) -> Iterator[tuple[int, Row]]:
    # Loaded for the first Parquet file: it is a quarter of a second of the API's start.
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path, thrift_string_size_limit=limits.line_bytes) as file:
            rows = _check_parquet(path, file, limits)
            metadata = file.metadata
        # One row may name one text of a list a million times: such texts are read as indices.
        leaves = [metadata.schema.column(index) for index in range(metadata.num_columns)]
        listed = [
            leaf.path for leaf in leaves if leaf.max_repetition_level and leaf.logical_type.type == "STRING"
        ]
        with pq.ParquetFile(path, metadata=metadata, read_dictionary=listed) as file:
            names = [field.name for field in file.schema_arrow if _readable(field.type)]
            if len(set(names)) != len(names):
                raise broken(path, 1, "its column names are not unique", "Name every column once.")
            for batch in file.iter_batches(batch_size=rows, columns=names):
                for piece in _pieces(path, number, batch):
                    for row in piece.to_pylist():
                        number += 1
                        yield number, row
    except (pa.ArrowException, OSError, UnicodeDecodeError, BadPage) as error:
        problem = f"not valid Parquet ({next(iter(str(error).splitlines()), 'unreadable')})"
        raise broken(path, number + 1, problem, "Write the file again.") from None


def _pieces(path: Path, before: int, batch: "RecordBatch") -> "Iterator[RecordBatch]":
    """The batch in parts whose texts in lists take little room."""
    if sum(map(text_bytes, batch.columns)) <= _BATCH_BYTES:
        yield batch
        return
    if batch.num_rows == 1:
        problem = f"the texts of a list together are longer than {_BATCH_BYTES:,} bytes"
        raise broken(path, before + 1, problem, "Shorten or split them.")
    half = batch.num_rows // 2
    yield from _pieces(path, before, batch.slice(0, half))
    yield from _pieces(path, before + half, batch.slice(half))


def _readable(kind: "DataType") -> bool:
    """Whether a column is plain, or lists and structs of texts and numbers: not images, not maps."""
    from pyarrow import types

    if types.is_list(kind) or types.is_large_list(kind):
        return not types.is_binary(kind.value_type) and _readable(kind.value_type)
    if types.is_struct(kind):
        return all(not types.is_binary(field.type) and _readable(field.type) for field in kind)
    return not types.is_nested(kind)


def _check_parquet(path: Path, file: "ParquetFile", limits: Limits) -> int:
    """How many rows may be read at a time; raises InvalidData or BadPage."""
    metadata = file.metadata
    if metadata.num_columns > limits.columns:
        raise InvalidData(f"{path.name} has more than {limits.columns} columns.", remedy=_KEEP_PLAIN)
    if metadata.num_rows > limits.rows:
        raise InvalidData(f"{path.name} has more than {limits.rows:,} rows.", remedy="Send fewer rows.")
    sizes = [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]
    if max(sizes, default=0) > limits.row_group_bytes:
        raise InvalidData(f"{path.name} has too large a row group.", remedy="Write smaller row groups.")
    largest = 1
    with path.open("rb") as content:
        for group, index in product(range(metadata.num_row_groups), range(metadata.num_columns)):
            pages = pages_of(content, metadata.row_group(group).column(index))
            listed = metadata.schema.column(index).max_repetition_level > 0
            if pages.largest > limits.page_bytes or (listed and pages.values > limits.list_values):
                problem = (
                    f"{path.name} has a page of more than {limits.page_bytes:,} bytes, or lists of too much"
                )
                raise InvalidData(f"{problem}.", remedy="Write smaller pages and row groups.")
            largest = max(largest, pages.largest)
    # A page may say its largest text again for every row.
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES // largest))
