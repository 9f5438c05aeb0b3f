"""Checking a safetensors file by its header alone; the tensors are never read.

The format: 8 bytes, little endian, the length of a JSON header; the header, which gives for each tensor its
dtype, shape, and begin and end in the rest of the file; the rest, which they fill without gap or overlap.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.assets.jsonfiles import parse_object
from pruning.errors import InvalidModel

MAX_HEADER_BYTES = 4 * 2**20
"""The format allows 100 MB; the header of an encoder with 48 layers has some 100 kB."""
MAX_DIMENSIONS = 8
WIDTHS = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8,
}  # fmt: skip
"""Bytes of one element by dtype."""


@dataclass(frozen=True)
class Tensor:
    """What the header says of one tensor; `begin` and `end` are bytes after the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def read_header(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; raises InvalidModel for anything but an exact safetensors file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < 8 or length > size - 8 or length < 2:
            raise _broken(path, "the length of its header does not fit the file")
        if length > MAX_HEADER_BYTES:
            raise _broken(path, f"its header is larger than {MAX_HEADER_BYTES:,} bytes")
        content = file.read(length)
    if not content.startswith(b"{"):
        raise _broken(path, "its header does not begin with {")
    header = parse_object(content, path.name)
    _check_metadata(path, header.pop("__metadata__", {}))
    tensors = {name: _tensor(path, name, entry) for name, entry in header.items()}
    _check_layout(path, tensors, size - 8 - length)
    return tensors


def _check_metadata(path: Path, metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _broken(path, "__metadata__ in its header is not a map of texts")


def _tensor(path: Path, name: str, entry: Any) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _broken(path, f"the entry of tensor {name!r:.100} is not dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in WIDTHS:
        raise _broken(path, f"tensor {name!r:.100} has the unknown dtype {dtype!r:.40}")
    if not _whole_numbers(shape) or len(shape) > MAX_DIMENSIONS:
        raise _broken(path, f"tensor {name!r:.100} has no valid shape")
    if not _whole_numbers(offsets) or len(offsets) != 2:
        raise _broken(path, f"tensor {name!r:.100} has no valid data_offsets")
    tensor = Tensor(dtype, tuple(shape), offsets[0], offsets[1])
    if tensor.end - tensor.begin != tensor.elements * WIDTHS[dtype]:
        raise _broken(path, f"the shape of tensor {name!r:.100} does not fit its data_offsets")
    return tensor


def _check_layout(path: Path, tensors: dict[str, Tensor], data_bytes: int) -> None:
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != end:
            raise _broken(path, f"tensor {name!r:.100} overlaps another one or leaves a gap")
        end = tensor.end
    if end != data_bytes:
        raise _broken(path, f"its tensors take {end:,} bytes but {data_bytes:,} follow the header")


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(number) is int and 0 <= number < 2**63 for number in value)


def _broken(path: Path, reason: str) -> InvalidModel:
    return InvalidModel(
        f"{path.name} is not a valid safetensors file: {reason}.",
        param=f"/files/{path.name}",
        remedy="Write it again with safetensors.",
    )
