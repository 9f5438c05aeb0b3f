"""Reading Parquet files in small batches, whatever their pages claim. Imports no torch."""

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from pruning.data.limits import KEEP_PLAIN, Limits, Row, broken
from pruning.data.pages import BadPage, pages_of, text_bytes
from pruning.errors import InvalidData

if TYPE_CHECKING:
    from pyarrow import DataType, RecordBatch
    from pyarrow.parquet import ParquetFile

_BATCH_ROWS = 1024
_BATCH_BYTES = 16_000_000


def read_parquet(path: Path, limits: Limits) -> Iterator[tuple[int, Row]]:
    """Yield (row number, row), rows from 1; raises InvalidData."""
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
        raise InvalidData(f"{path.name} has more than {limits.columns} columns.", remedy=KEEP_PLAIN)
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
