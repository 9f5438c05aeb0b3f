"""Small files as a client would upload them, made without torch."""

import json
import struct
from typing import Any

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
    "vocab_size": 30,
}


def safetensors(shapes: dict[str, tuple[int, ...]], **changes: Any) -> bytes:
    """A file of float32 zeros; `changes` replace parts of every tensor's header entry, to make it lie."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 4
        for length in shape:
            size *= length
        entry = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, offset + size]}
        header[name] = entry | changes
        offset += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(offset)


def model_files(**config: Any) -> dict[str, bytes]:
    """The files of a two-layer BERT; `config` changes its config.json."""
    return {
        "config.json": json.dumps(CONFIG | config).encode(),
        "model.safetensors": safetensors({"bert.embeddings.word_embeddings.weight": (30, 32)}),
        "vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\n",
    }


def dataset_files(rows: int = 20, **row: Any) -> dict[str, bytes]:
    """A training split of two classes; `row` changes fields of every row."""
    lines = [json.dumps({"text": f"row {i}", "label": i % 2} | row) for i in range(rows)]
    return {"train.jsonl": "\n".join(lines).encode()}
