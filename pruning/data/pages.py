"""How large the pages of a Parquet file become, read from their headers before any page is. Imports no torch.

What the footer says of sizes need not be true; a reader makes room for what the header of each page says. Headers are
structs of Thrift's compact protocol: a byte of type and field distance before each field, numbers as zigzag varints.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pyarrow import Array
    from pyarrow.parquet import ColumnChunkMetaData

_UNCOMPRESSED, _COMPRESSED = 2, 3
_DATA, _DATA_V2 = 5, 8
_ENCODINGS = {_DATA: 2, _DATA_V2: 4}
_DELTA_BYTE_ARRAY = 7
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 7, 8, 12
_MAX_DEPTH = 4
_Numbers = dict[tuple[int, ...], int]


class BadPage(ValueError):
    """A page header that cannot be read, or that a reader must not follow."""


@dataclass(frozen=True)
class Pages:
    """The bytes of the largest page of a column chunk, uncompressed, and the values of all its pages."""

    largest: int
    values: int


def pages_of(file: BinaryIO, chunk: "ColumnChunkMetaData") -> Pages:
    """Walk over the page headers of one column chunk; raises BadPage.

    Texts stored as prefixes of the text before them are refused: their size is in no header.
    """
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset:
        start = min(start, chunk.dictionary_page_offset)
    end, largest, values = start + chunk.total_compressed_size, 0, 0
    while start < end:
        file.seek(start)
        header = _struct(file, ())
        size, stored = header.get((_UNCOMPRESSED,), -1), header.get((_COMPRESSED,), -1)
        if size < 0 or stored < 0:
            raise BadPage("a page has no size")
        for kind, field in _ENCODINGS.items():
            if header.get((kind, field)) == _DELTA_BYTE_ARRAY:
                raise BadPage("texts are stored as DELTA_BYTE_ARRAY")
            values += max(0, header.get((kind, 1), 0))
        largest, start = max(largest, size), file.tell() + stored
    return Pages(largest, values)


def text_bytes(array: "Array") -> int:
    """Bytes that the texts of a column take when those read as indices are spelled out."""
    import pyarrow.compute as pc
    from pyarrow import types

    if types.is_dictionary(array.type):
        lengths = pc.take(pc.binary_length(array.dictionary), array.indices)
        return pc.sum(lengths).as_py() or 0
    if types.is_list(array.type) or types.is_large_list(array.type):
        return text_bytes(array.flatten())
    if types.is_struct(array.type):
        return sum(map(text_bytes, array.flatten()))
    return 0


def _struct(file: BinaryIO, path: tuple[int, ...]) -> _Numbers:
    """The numbers of a struct and of those inside it, by the field ids on the way to them."""
    if len(path) > _MAX_DEPTH:
        raise BadPage("a page header is nested too deeply")
    found: _Numbers = {}
    field = 0
    while kind := _byte(file):
        field = field + (kind >> 4) if kind >> 4 else _number(file)
        here = (*path, field)
        if kind & 15 == _STRUCT:
            found |= _struct(file, here)
        elif (value := _value(file, kind & 15)) is not None:
            found[here] = value
    return found


def _value(file: BinaryIO, kind: int) -> int | None:
    """The value of a field if it is a number; others are passed over."""
    if kind in (_TRUE, _FALSE):
        return None
    if kind in (4, 5, 6):
        return _number(file)
    if kind in (_BYTE, _DOUBLE):
        file.seek(1 if kind == _BYTE else 8, 1)
    elif kind == _BINARY:
        file.seek(_varint(file), 1)
    else:  # lists, sets and maps: no field of a page header is one
        raise BadPage("a page header has a field of an unknown kind")
    return None


def _number(file: BinaryIO) -> int:
    spelled = _varint(file)
    return (spelled >> 1) ^ -(spelled & 1)


def _varint(file: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = _byte(file)
        value |= (byte & 127) << shift
        if byte < 128:
            return value
    raise BadPage("a number of a page header does not end")


def _byte(file: BinaryIO) -> int:
    byte = file.read(1)
    if not byte:
        raise BadPage("a page header is cut")
    return byte[0]
