"""The files of a tiny BERT as bytes, made without torch, and ways to spoil them."""

import json
from typing import Any

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "intermediate_size": 16,
    "vocab_size": 5,
}


def safetensors(
    tensors: dict[str, tuple[str, list[int], list[int]]], data: bytes, *, length: int | None = None
) -> bytes:
    """A safetensors file with this header, true or not: (dtype, shape, data_offsets) by name; the data."""
    entries = {
        name: {"dtype": dtype, "shape": shape, "data_offsets": span}
        for name, (dtype, shape, span) in tensors.items()
    }
    return with_header(
        json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode(), data, length=length
    )


def with_header(header: bytes, data: bytes, *, length: int | None = None) -> bytes:
    """A file of the form of safetensors, with any bytes as header and any stated length."""
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def model_files(**config: Any) -> dict[str, bytes]:
    """A whole model; `config` adds to or replaces fields of its config.json."""
    return {
        "config.json": json.dumps(CONFIG | config).encode(),
        "model.safetensors": safetensors(
            {"a": ("F32", [2, 3], [0, 24]), "b": ("F16", [4], [24, 32])}, bytes(32)
        ),
        "vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n",
    }
