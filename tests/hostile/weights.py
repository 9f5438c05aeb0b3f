"""Weight files that lie in their header, and files that are no safetensors at all."""

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from functools import partial
from typing import Any

from tests.hostile.case import Case, Make, of_model
from tests.support.modelfiles import safetensors, with_header
from tests.support.uploads import model_files

PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"
ALLOWED = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "model.safetensors",
)
"""Names under which anything can be uploaded; what is in the file is seen at completion."""


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("this must never be printed",))


def pickled() -> bytes:
    """A pickle that runs code when it is loaded."""
    return pickle.dumps(_Payload())


def torch_archive() -> bytes:
    """What torch.save writes: a zip with a pickle inside."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickled())
        archive.writestr("archive/data/0", bytes(2**20))
    return buffer.getvalue()


def tar() -> bytes:
    """An archive with a member outside its folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../etc/cron.d/evil"), io.BytesIO())
    return buffer.getvalue()


FOREIGN: dict[str, Make] = {
    "pickle": pickled,
    "zip of torch.save": torch_archive,
    "tar": tar,
    "HDF5": lambda: b"\x89HDF\r\n\x1a\n" + bytes(2000),
    "ELF": lambda: b"\x7fELF\x02\x01\x01" + bytes(2000),
}


def entry(dtype: Any = "F32", shape: Any = (1,), span: Any = (0, 4)) -> dict[str, Any]:
    """One tensor of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": span}


def spelled(header: Any, data: int = 4) -> bytes:
    """A file with this header as JSON, and so many zeros."""
    return with_header(json.dumps(header).encode(), bytes(data))


def one(data: int = 4, **change: Any) -> Make:
    """A file of one tensor that is wrong in one way."""
    return lambda: spelled({"a": entry(**change)}, data)


def raw(header: bytes, data: int = 4) -> Make:
    """A file with these bytes as header."""
    return lambda: with_header(header, bytes(data))


def two(first: tuple[int, int], second: tuple[int, int], data: int) -> Make:
    """A file of two tensors of bytes at these places."""
    header = {name: entry("U8", [span[1] - span[0]], span) for name, span in (("a", first), ("b", second))}
    return lambda: spelled(header, data)


def many_tensors(count: int) -> bytes:
    """A header of so many tensors without bytes."""
    tensor = b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    return with_header(b"{" + b",".join(tensor % number for number in range(count)) + b"}", b"")


_PLAIN = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
SAFETENSORS: dict[str, Make] = {
    "empty": lambda: b"",
    "seven bytes": lambda: bytes(7),
    "length alone": lambda: struct.pack("<Q", 2),
    "zero length": lambda: bytes(64),
    "length of one": lambda: struct.pack("<Q", 1) + b"{}",
    "length beyond the file": lambda: struct.pack("<Q", 1000) + b"{}",
    "length of 2**63": lambda: struct.pack("<Q", 2**63) + b"{}",
    "length of 2**64-1": lambda: b"\xff" * 8 + b"{}",
    "length in big endian": lambda: struct.pack(">Q", 2) + b"{}",
    "header of five megabytes": raw(b"{" + b" " * 5_000_000 + b"}"),
    "header of text": raw(b"hello"),
    "header of a list": raw(b"[]"),
    "header of a number": raw(b"12"),
    "header of null": raw(b"null"),
    "header behind a space": raw(b' {"a":1}'),
    "header behind a BOM": raw(b"\xef\xbb\xbf{" + _PLAIN + b"}"),
    "header cut": raw(b"{" + _PLAIN),
    "header and more": raw(b"{" + _PLAIN + b"}{}"),
    "header with a comment": raw(b"{/* */" + _PLAIN + b"}"),
    "header with a comma too many": raw(b"{" + _PLAIN + b",}"),
    "header in single quotes": raw(b"{'a': 1}"),
    "header in UTF-16": raw(("{" + _PLAIN.decode() + "}").encode("utf-16")),
    "header not UTF-8": raw(b'{"\xff":' + _PLAIN[4:] + b"}"),
    "name of half a surrogate pair": raw(b'{"\\ud800":' + _PLAIN[4:] + b"}"),
    "name with a NUL": raw(b'{"a\\u0000":' + _PLAIN[4:] + b"}"),
    "raw NUL": raw(b'{"a\x00":' + _PLAIN[4:] + b"}"),
    "NaN": raw(b'{"a":NaN}'),
    "Infinity": raw(b'{"a":-Infinity}'),
    "1e999 in a shape": raw(b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}'),
    "deep lists": raw(b'{"a":' + b"[" * 100_000),
    "deep objects": raw(b'{"a":' * 100_000),
    "forty levels": raw(b'{"a":' * 40 + b"1" + b"}" * 40),
    "number of 5,000 digits": raw(b'{"a":' + b"9" * 5000 + b"}"),
    "tensor twice": raw(b"{" + _PLAIN + b"," + _PLAIN + b"}"),
    "tensor twice, one escaped": raw(b"{" + _PLAIN + b',"\\u0061"' + _PLAIN[3:] + b"}"),
    "dtype twice": raw(b'{"a":{"dtype":"F32","dtype":"U8","shape":[1],"data_offsets":[0,4]}}'),
    "many empty lists": raw(b'{"a":[' + b"[]," * 1_000_000 + b"[]]}"),
    "many empty objects": raw(b'{"a":[' + b"{}," * 1_000_000 + b"{}]}"),
    "many small objects": raw(b'{"a":[' + b'{"":0},' * 500_000 + b"0]}"),
    "many numbers": raw(b'{"a":[' + b"0.1," * 1_000_000 + b"0]}"),
    "shape of 1,000,000": raw(b'{"a":{"dtype":"U8","data_offsets":[0,4],"shape":[' + b"1," * 10**6 + b"4]}}"),
    "70,000 tensors": partial(many_tensors, 70_000),
    "a million tensors": partial(many_tensors, 10**6),
    "tensor is a number": lambda: spelled({"a": 1}),
    "tensor is a list": lambda: spelled({"a": []}),
    "tensor is null": lambda: spelled({"a": None}),
    "tensor without dtype": lambda: spelled({"a": {"shape": [1], "data_offsets": [0, 4]}}),
    "tensor without offsets": lambda: spelled({"a": {"shape": [1], "dtype": "F32"}}),
    "tensor with more": lambda: spelled({"a": entry() | {"file": "/etc/passwd"}}),
    "dtype unknown": one(dtype="PICKLE"),
    "dtype in small letters": one(dtype="f32"),
    "dtype is a list": one(dtype=["F32"]),
    "dtype is null": one(dtype=None),
    "dtype of a megabyte": lambda: spelled({"a": entry(dtype="F" * 10**6)}),
    "dtype too wide": one(dtype="F64"),
    "dtype too narrow": one(dtype="F16"),
    "shape is text": one(shape="1"),
    "shape is null": one(shape=None),
    "shape is an object": one(shape={}),
    "shape negative": one(shape=[-1]),
    "shape negative twice": one(shape=[-1, -1]),
    "shape true": one(shape=[True]),
    "shape of floats": one(shape=[1.0]),
    "shape of texts": one(shape=["1"]),
    "shape nested": one(shape=[[1]]),
    "shape of nine": one(shape=[1] * 9),
    "shape too large": one(shape=[2]),
    "shape of 2**63": one(shape=[2**63]),
    "shape of 10**300": one(shape=[10**300]),
    "product wraps at 2**64 to 1": one(shape=[274177, 67280421310721]),
    "product wraps at 2**64 to 0": one(data=0, shape=[2**32, 2**32], span=[0, 0]),
    "bytes wrap at 2**64": one(data=0, shape=[2**62], span=[0, 0]),
    "product wraps at 2**32": one(data=0, shape=[2**16, 2**16], span=[0, 0]),
    "offsets of one": one(span=[0]),
    "offsets of three": one(span=[0, 2, 4]),
    "offsets backwards": one(span=[4, 0]),
    "offsets negative": one(span=[-4, 0]),
    "offsets of floats": one(span=[0.0, 4.0]),
    "offsets beyond the file": one(span=[4, 8]),
    "offsets of 2**60": one(shape=[2**58], span=[0, 2**60]),
    "offsets of 2**64": one(span=[2**64, 2**64 + 4]),
    "offsets into the header": one(data=8, span=[-8, -4]),
    "overlap": two((0, 4), (2, 6), 6),
    "one inside the other": two((0, 6), (2, 4), 6),
    "the same place twice": two((0, 4), (0, 4), 4),
    "gap": two((0, 2), (3, 5), 5),
    "gap at the start": two((1, 2), (2, 4), 4),
    "bytes behind the end": two((0, 2), (2, 4), 5),
    "bytes missing": two((0, 2), (2, 4), 3),
    "polyglot with zip": lambda: safetensors({"a": ("F32", [1], [0, 4])}, bytes(4)) + torch_archive(),
    "metadata is a list": lambda: spelled({"__metadata__": [], "a": entry()}),
    "metadata is null": lambda: spelled({"__metadata__": None, "a": entry()}),
    "metadata of numbers": lambda: spelled({"__metadata__": {"a": 1}, "a": entry()}),
    "metadata nested": lambda: spelled({"__metadata__": {"a": {"b": "c"}}, "a": entry()}),
    "metadata twice": raw(b'{"__metadata__":{},"__metadata__":{},' + _PLAIN + b"}"),
    "metadata as tensor": lambda: spelled({"__metadata__": entry(), "a": entry()}),
    "metadata of 200,000": lambda: spelled({"__metadata__": {str(i): "" for i in range(200_000)}}, 0),
    "no tensor": raw(b"{}", 0),
}


def in_parts(**changes: bytes) -> dict[str, bytes]:
    """A model in two parts whose index or parts are replaced: `first`, `second`, `index`."""
    files = model_files()
    del files["model.safetensors"]
    files |= {
        name: safetensors({tensor: ("F32", [2], [0, 8])}, bytes(8))
        for name, tensor in zip(PARTS, "ab", strict=True)
    }
    files[INDEX] = json.dumps({"weight_map": dict(zip("ab", PARTS, strict=True))}).encode()
    names = {"first": PARTS[0], "second": PARTS[1], "index": INDEX}
    return files | {names[key]: content for key, content in changes.items()}


_INDEXES: dict[str, Any] = {
    "of nothing": {},
    "of text": {"weight_map": "a"},
    "of a list": {"weight_map": ["a", "b"]},
    "to a path above": {"weight_map": {"a": "../../etc/passwd", "b": PARTS[1]}},
    "to an absolute path": {"weight_map": {"a": "/etc/passwd", "b": PARTS[1]}},
    "to a pickle": {"weight_map": {"a": "pytorch_model.bin", "b": PARTS[1]}},
    "to numbers": {"weight_map": {"a": 1, "b": 2}},
    "with parts exchanged": {"weight_map": {"a": PARTS[1], "b": PARTS[0]}},
    "with a tensor too many": {"weight_map": {"a": PARTS[0], "b": PARTS[1], "c": PARTS[1]}},
    "with code": {"auto_map": {}, "weight_map": {"a": PARTS[0], "b": PARTS[1]}},
}


def cases() -> Iterator[Case]:
    """Every hostile weight file."""
    yield from of_model("model.safetensors", SAFETENSORS)
    for name in ALLOWED:
        for what, make in FOREIGN.items():
            if name not in ("vocab.txt", "merges.txt"):  # plain text, which nothing loads as anything else
                yield from of_model(name, {what: make})
    for what, index in _INDEXES.items():
        make = partial(in_parts, index=json.dumps(index).encode())
        yield Case(f"{INDEX}: {what}", "models", make, INDEX)
    yield Case(f"{PARTS[1]}: pickle", "models", lambda: in_parts(second=pickled()), PARTS[1])
    same = safetensors({"a": ("F32", [2], [0, 8])}, bytes(8))
    yield Case(f"{PARTS[1]}: a tensor of the other", "models", lambda: in_parts(second=same), INDEX)
