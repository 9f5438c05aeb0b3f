"""Files that are not exactly safetensors are refused by their header."""

import json
import pickle
import struct
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors.numpy import save

from core.assets.safetensors import MAX_DIMENSIONS, MAX_HEADER_BYTES, WIDTHS, read_header
from pruning.errors import InvalidModel
from tests.support.modelfiles import safetensors, with_header

GOOD = {"a": ("F32", [2, 3], [0, 24]), "b": ("F16", [4], [24, 32])}


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    return path


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    import numpy as np

    arrays = {
        "x": np.zeros((3, 5), np.float32),
        "y": np.ones((2,), np.int64),
        "empty": np.zeros((0, 4), np.float16),
    }
    header = read_header(written(tmp_path, save(arrays, {"format": "pt"})))
    assert {name: tensor.shape for name, tensor in header.items()} == {
        "x": (3, 5),
        "y": (2,),
        "empty": (0, 4),
    }
    assert {name: tensor.dtype for name, tensor in header.items()} == {"x": "F32", "y": "I64", "empty": "F16"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "length of its header"),
        (b"\x01\x02", "length of its header"),
        (pickle.dumps({"a": [1.0] * 100}), "length of its header"),
        (b"PK\x03\x04\x00\x00\x00\x00\x00" + bytes(100), "length of its header"),
        (struct.pack("<Q", 2**63) + b"{}", "length of its header"),
        (struct.pack("<Q", MAX_HEADER_BYTES + 1) + b" " * (MAX_HEADER_BYTES + 2), "larger than"),
        (with_header(b" {}", b""), "begin with {"),
        (with_header(b"[]", b""), "begin with {"),
        (with_header(b"{nope", b""), "not valid JSON"),
        (with_header(b'{"a": NaN}', b""), "not a JSON value"),
        (with_header(b'{"a": 1, "a": 2}', b""), "twice"),
        (with_header(b'{"a":' * 5000, b""), "nested"),
        (with_header(b'{"a":' * 40 + b"1" + b"}" * 40, b""), "nested"),
        (with_header(b'{"a": ' + b"9" * 5000 + b"}", b""), "not valid JSON"),
        (with_header(b'{"__metadata__": {"a": 1}}', b""), "__metadata__"),
        (with_header(b'{"a": 1}', b""), "not dtype, shape"),
        (
            with_header(b'{"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4], "x": 1}}', bytes(4)),
            "not dtype",
        ),
        (safetensors({"a": ("PICKLE", [1], [0, 4])}, bytes(4)), "unknown dtype"),
        (safetensors({"a": ("F32", [-1], [0, 4])}, bytes(4)), "no valid shape"),
        (safetensors({"a": ("F32", [True], [0, 4])}, bytes(4)), "no valid shape"),
        (safetensors({"a": ("F32", [1.0], [0, 4])}, bytes(4)), "no valid shape"),  # type: ignore[list-item]
        (safetensors({"a": ("F32", [1] * 9, [0, 4])}, bytes(4)), "no valid shape"),
        (safetensors({"a": ("F32", [1], [0])}, bytes(4)), "data_offsets"),
        (safetensors({"a": ("F32", [1], [0, 2**64])}, bytes(4)), "data_offsets"),
        (safetensors({"a": ("F32", [2**40, 2**40], [0, 4])}, bytes(4)), "does not fit its data_offsets"),
        (safetensors({"a": ("F32", [2], [8, 0])}, bytes(8)), "does not fit its data_offsets"),
        (safetensors({"a": ("F32", [1], [0, 4]), "b": ("F32", [1], [0, 4])}, bytes(4)), "overlaps"),
        (safetensors({"a": ("F32", [2], [0, 8]), "b": ("F32", [2], [4, 12])}, bytes(12)), "overlaps"),
        (safetensors({"a": ("F32", [1], [4, 8])}, bytes(8)), "gap"),
        (safetensors(GOOD, bytes(31)), "but 31 follow"),
        (safetensors(GOOD, bytes(33)), "but 33 follow"),
        (safetensors(GOOD, bytes(32), length=10), "not valid JSON"),
    ],
)
def test_hostile_files_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(InvalidModel, match=reason) as refused:
        read_header(written(tmp_path, content))
    assert refused.value.param == "/files/model.safetensors"


@given(
    shapes=st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=5),
    dtypes=st.lists(st.sampled_from(sorted(WIDTHS)), min_size=5, max_size=5),
    spoil=st.sampled_from(["nothing", "shift", "grow", "cut"]),
)
def test_exactly_the_layouts_without_gap_or_overlap_pass(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[list[int]], dtypes: list[str], spoil: str
) -> None:
    tensors, end = {}, 0
    for number, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=False)):
        size = WIDTHS[dtype]
        for dimension in shape:
            size *= dimension
        tensors[f"t{number}"] = (dtype, shape, [end, end + size])
        end += size
    data = bytes(end)
    if spoil == "shift":
        assume(0 not in shapes[0])  # a tensor of no bytes lies as well in one place as in another
        tensors["t0"] = (*tensors["t0"][:2], [position + 1 for position in tensors["t0"][2]])
    elif spoil == "grow":
        data += b"\0"
    elif spoil == "cut":
        data = data[:-1]
    path = written(tmp_path_factory.mktemp("file"), safetensors(tensors, data))
    if spoil == "nothing" or (spoil == "cut" and not end):
        assert {name: list(tensor.shape) for name, tensor in read_header(path).items()} == {
            name: shape for name, (_, shape, _) in tensors.items()
        }
    else:
        with pytest.raises(InvalidModel):
            read_header(path)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = written(tmp_path_factory.mktemp("file"), content)
    try:
        tensors = read_header(path)
    except InvalidModel:
        return
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert tensors.keys() == header.keys() - {"__metadata__"}


def test_headers_are_taken_up_to_their_limits(tmp_path: Path) -> None:
    for header in (b"{}", b"{}".ljust(MAX_HEADER_BYTES)):
        assert read_header(written(tmp_path, with_header(header, b""))) == {}
    path = written(tmp_path, safetensors({"a": ("F32", [1] * MAX_DIMENSIONS, [0, 4])}, bytes(4)))
    (tensor,) = read_header(path).values()
    assert (tensor.shape, tensor.begin, tensor.end, tensor.elements) == ((1,) * MAX_DIMENSIONS, 0, 4, 1)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (with_header(b"{", b""), "the length of its header does not fit the file"),
        (with_header(b"{}", b"", length=3), "the length of its header does not fit the file"),
        (with_header(b"{}".ljust(MAX_HEADER_BYTES + 1), b""), "its header is larger than 4,194,304 bytes"),
        (with_header(b" {}", b""), "its header does not begin with {"),
        (with_header(b'{"__metadata__": []}', b""), "__metadata__ in its header is not a map of texts"),
        (with_header(b'{"a": []}', b""), "the entry of tensor 'a' is not dtype, shape and data_offsets"),
        (safetensors({"a": ("F3", [1], [0, 4])}, bytes(4)), "tensor 'a' has the unknown dtype 'F3'"),
        (safetensors({"a": ("F32", [-1], [0, 4])}, bytes(4)), "tensor 'a' has no valid shape"),
        (safetensors({"a": ("F32", [1], [0, 4, 4])}, bytes(4)), "tensor 'a' has no valid data_offsets"),
        (safetensors({"a": ("F32", [1], [0, 2**63])}, bytes(4)), "tensor 'a' has no valid data_offsets"),
        (safetensors({"a": ("F32", [1], [0, 5])}, bytes(5)), "the shape of tensor 'a' does not fit its data_offsets"),
        (safetensors({"a": ("F32", [1], [1, 5])}, bytes(5)), "tensor 'a' overlaps another one or leaves a gap"),
        (safetensors({"a": ("F32", [2], [0, 8])}, bytes(1009)), "its tensors take 8 bytes but 1,009 follow the header"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_safetensors_file(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(InvalidModel) as refused:
        read_header(written(tmp_path, content))
    assert refused.value.message == f"model.safetensors is not a valid safetensors file: {reason}."
    assert refused.value.param == "/files/model.safetensors"
    assert refused.value.remedy == "Write it again with safetensors."
