"""Configurations and tokenizers that ask for code, for room, or for endless work."""

import json
from collections.abc import Iterator
from typing import Any

from tests.hostile.case import Case, Make, of_model
from tests.support.uploads import CONFIG


def config(**changes: Any) -> Make:
    """A config.json that is wrong in one way."""
    return lambda: json.dumps(CONFIG | changes).encode()


def beside(text: bytes) -> Make:
    """A config.json with further members, spelled by hand."""
    return lambda: json.dumps(CONFIG).encode()[:-1] + b"," + text + b"}"


CONFIGS: dict[str, Make] = {
    "empty": lambda: b"",
    "null": lambda: b"null",
    "list": lambda: b"[]",
    "text": lambda: b'"bert"',
    "not UTF-8": lambda: b'{"a": "\xff"}',
    "UTF-16": lambda: json.dumps(CONFIG).encode("utf-16"),
    "YAML": lambda: b"!!python/object/apply:os.system ['true']",
    "XML of a billion laughs": lambda: b'<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;">]><a>&c;</a>',
    "cut": lambda: json.dumps(CONFIG).encode()[:-1],
    "deep lists": beside(b'"a":' + b"[" * 200_000),
    "deep objects": beside(b'"a":' + b'{"a":' * 100_000),
    "40 levels": beside(b'"a":' + b"[" * 40 + b"]" * 40),
    "duplicate model_type": beside(b'"model_type":"llama"'),
    "duplicate far inside": beside(b'"a":{"b":{"c":1,"c":2}}'),
    "NaN": beside(b'"a":NaN'),
    "Infinity": beside(b'"a":Infinity'),
    "1e999": beside(b'"a":1e999'),
    "5,000 digits": beside(b'"a":' + b"9" * 5000),
    "half a surrogate pair": beside(b'"a":"\\ud800"'),
    "half a surrogate pair as a key": beside(b'"\\udfff":1'),
    "NUL escaped": beside(b'"a":"\\u0000"'),
    "NUL as a key": beside(b'"\\u0000":1'),
    "raw NUL": beside(b'"a":"\x00"'),
    "two megabytes": beside(b'"a":"' + b"x" * 2**21 + b'"'),
    "many empty lists": beside(b'"a":[' + b"[]," * 300_000 + b"[]]"),
    "many empty objects": beside(b'"a":[' + b"{}," * 300_000 + b"{}]"),
    "auto_map": config(auto_map={"AutoModel": "evil.Model"}),
    "auto_map empty": config(auto_map={}),
    "auto_map of another repository": config(auto_map={"AutoModel": "evil/repo--evil.Model"}),
    "auto_map inside": config(encoder={"auto_map": {"AutoModel": "evil.Model"}}),
    "custom_pipelines": config(custom_pipelines={"x": {"impl": "evil.Pipeline"}}),
    "kernel of the hub": config(attn_implementation="evil/kernel"),
    "kernel of the hub, underscored": config(_attn_implementation="evil/kernel:Attention"),
    "kernels by part": config(attn_implementation={"": "evil/kernel"}),
    "kernel set directly": config(_attn_implementation_internal="evil/kernel"),
    "quantized": config(quantization_config={"quant_method": "bitsandbytes"}),
    "unknown family": config(model_type="evil"),
    "family of a megabyte": config(model_type="e" * 10**6),
    "family is a list": config(model_type=["bert"]),
    "family is null": config(model_type=None),
    "family is a path": config(model_type="../../bert"),
    "architecture unknown": config(architectures=["EvilModel"]),
    "architecture of another family": config(architectures=["LlamaForCausalLM"]),
    "architecture is a path": config(architectures=["os.system"]),
    "architecture of a megabyte": config(architectures=["B" * 900_000]),
    "architectures is text": config(architectures="BertModel"),
    "architectures is an object": config(architectures={"BertModel": 1}),
    "architectures of numbers": config(architectures=[1]),
    "layers missing": lambda: json.dumps(
        {k: v for k, v in CONFIG.items() if k != "num_hidden_layers"}
    ).encode(),
    "layers of 10**9": config(num_hidden_layers=10**9),
    "layers negative": config(num_hidden_layers=-1),
    "layers zero": config(num_hidden_layers=0),
    "layers true": config(num_hidden_layers=True),
    "layers as text": config(num_hidden_layers="2"),
    "layers as a megabyte of text": config(num_hidden_layers="2" * 900_000),
    "layers as a fraction": config(num_hidden_layers=2.5),
    "layers of 4,000 digits": config(num_hidden_layers=10**4000),
    "hidden of 2**31": config(hidden_size=2**31),
    "hidden as a list": config(hidden_size=[32]),
    "hidden not a multiple": config(hidden_size=33),
    "heads of zero": config(num_attention_heads=0),
    "heads of 10**12": config(num_attention_heads=10**12),
    "FFN of 10**12": config(intermediate_size=10**12),
    "FFN null": config(intermediate_size=None),
    "vocabulary of 10**12": config(vocab_size=10**12),
    "vocabulary negative": config(vocab_size=-30),
    "positions of 10**12": config(max_position_embeddings=10**12),
    "token types of 10**9": config(type_vocab_size=10**9),
    "token types as text": config(type_vocab_size="2"),
    "labels of 10**9": config(num_labels=10**9),
    "labels as text": config(num_labels="many"),
    "labels negative": config(num_labels=-1),
    "label names as a list": config(id2label=["a", "b"]),
    "label names as a number": config(id2label=7),
    "20,000 label names": config(id2label={str(i): "x" for i in range(20_000)}),
    "a model larger than its weights": config(
        num_hidden_layers=128, hidden_size=8192, num_attention_heads=64, intermediate_size=65_536
    ),
    "a vocabulary larger than its weights": config(vocab_size=2_000_000, hidden_size=8192),
}


def tokenizer(**changes: Any) -> Make:
    """A tokenizer.json of one word that is wrong in one way."""
    whole = {"version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": {"[UNK]": 0}}}
    return lambda: json.dumps(whole | changes).encode()


def split(pattern: str) -> Make:
    """A tokenizer.json that cuts at a regular expression."""
    return tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"})


def replaced(pattern: Any, content: str, times: int = 1) -> Make:
    """A tokenizer.json that replaces, again and again."""
    step = {"type": "Replace", "pattern": pattern, "content": content}
    return tokenizer(normalizer={"type": "Sequence", "normalizers": [step] * times})


def vocabulary(tokens: Any) -> Make:
    """A tokenizer.json with this vocabulary."""
    return tokenizer(model={"type": "WordLevel", "vocab": tokens})


TOKENIZERS: dict[str, Make] = {
    "empty": lambda: b"",
    "list": lambda: b"[]",
    "cut": lambda: b'{"model": {',
    "not UTF-8": lambda: b'{"a": "\xff"}',
    "deep": lambda: b'{"a":' * 100_000,
    "40 levels": lambda: b'{"a":' + b"[" * 40 + b"]" * 40 + b"}",
    "many empty lists": lambda: b'{"a":[' + b"[]," * 4_000_000 + b"[]]}",
    "many empty objects": lambda: b'{"a":[' + b"{}," * 4_000_000 + b"{}]}",
    "many numbers": lambda: b'{"a":[' + b"1," * 4_000_000 + b"1]}",
    "word twice": lambda: b'{"model":{"vocab":{"a":1,"a":2}}}',
    "half a surrogate pair": lambda: b'{"model":{"vocab":{"\\ud800":0}}}',
    "NaN": lambda: b'{"a": NaN}',
    "code": tokenizer(auto_map={"AutoTokenizer": ["evil.Tokenizer", None]}),
    "model is text": tokenizer(model="WordLevel"),
    "model missing": tokenizer(model=None),
    "vocabulary is text": vocabulary("a"),
    "id of 2**40": vocabulary({"a": 2**40}),
    "id of 2**32-1": vocabulary({"a": 2**32 - 1}),
    "id negative": vocabulary({"a": -1}),
    "id as text": vocabulary({"a": "1"}),
    "id true": vocabulary({"a": True}),
    "id as a fraction": vocabulary({"a": 0.5}),
    "id null": vocabulary({"a": None}),
    "added id of 2**32-1": tokenizer(added_tokens=[{"id": 2**32 - 1, "content": "a"}]),
    "added id negative": tokenizer(added_tokens=[{"id": -1, "content": "a"}]),
    "added is an object": tokenizer(added_tokens={"a": 1}),
    "added are numbers": tokenizer(added_tokens=[1, 2]),
    "plus in plus": split("(a+)+$"),
    "star in star": split("(a*)*b"),
    "choice repeated": split("(a|aa)+$"),
    "repeated without end": split("(a|a?){2,}$"),
    "repeated a thousand times": split("(x+x+){1000}y"),
    "repeated groups, not captured": split("(?:[a-z]+\\s?)+$"),
    "pattern of 100,000": split("a?" * 50_000),
    "pattern is a number": tokenizer(pre_tokenizer={"type": "Split", "pattern": {"Regex": 1}}),
    "pattern in a normalizer": replaced({"Regex": "(a+)+$"}, "b"),
    "pattern in a decoder": tokenizer(
        decoder={"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""}
    ),
    "billion laughs": replaced({"String": "a"}, "aa", 30),
    "billion laughs by a pattern": replaced({"Regex": "."}, "aa", 30),
    "one large laugh": replaced({"String": "a"}, "a" * 500_000),
    "laugh at nothing": replaced({"String": ""}, "a" * 500_000),
    "content is a number": tokenizer(
        normalizer={"type": "Replace", "pattern": {"String": "a"}, "content": 1}
    ),
}

VOCABULARIES: dict[str, Make] = {
    "list": lambda: b"[]",
    "deep": lambda: b'{"a":' * 100_000,
    "word twice": lambda: b'{"a":1,"a":2}',
    "id of 2**40": lambda: b'{"a": 1099511627776}',
    "id negative": lambda: b'{"a": -1}',
    "id as text": lambda: b'{"a": "1"}',
    "id as a list": lambda: b'{"a": [1]}',
    "half a surrogate pair": lambda: b'{"\\ud800": 1}',
}
LINES: dict[str, Make] = {
    "not UTF-8": lambda: b"[PAD]\n\xff\xfe\n",
    "UTF-16": lambda: "[PAD]\n".encode("utf-16"),
    "NUL": lambda: b"[PAD]\n\x00\n",
    "pickle": lambda: b"\x80\x04\x95\x10\x00\x00\x00",
    "lines without end": lambda: b"\n" * 2_500_000,
    "one line of a megabyte": lambda: b"[PAD]\n" + b"x" * 2**20,
}
SETTINGS: dict[str, Make] = {
    "auto_map": lambda: b'{"auto_map": {"AutoTokenizer": ["evil.Tokenizer", null]}}',
    "auto_map inside": lambda: b'{"a": [{"auto_map": {}}]}',
    "list": lambda: b"[]",
    "deep": lambda: b"[" * 100_000,
    "NaN": lambda: b'{"a": NaN}',
    "duplicate": lambda: b'{"tokenizer_class": "A", "tokenizer_class": "B"}',
    "half a surrogate pair": lambda: b'{"pad_token": "\\ud800"}',
    "two megabytes": lambda: b'{"a": "' + b"x" * 2**21 + b'"}',
}


def cases() -> Iterator[Case]:
    """Every hostile text file of a model."""
    yield from of_model("config.json", CONFIGS)
    yield from of_model("tokenizer.json", TOKENIZERS)
    for name in ("vocab.json", "added_tokens.json"):
        yield from of_model(name, VOCABULARIES)
    for name in ("vocab.txt", "merges.txt"):
        yield from of_model(name, LINES)
    for name in ("tokenizer_config.json", "generation_config.json", "special_tokens_map.json"):
        yield from of_model(name, SETTINGS)
