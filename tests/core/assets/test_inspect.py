"""Models whose files are missing, lie, or ask for code are refused with the file's name."""

import json
from pathlib import Path
from typing import Any

import pytest

from core.assets.inspect import CONFIG_BYTES, INDEX, model_complete
from core.assets.names import check_dataset_name, check_model_name
from core.errors import InvalidRequest
from pruning.errors import InvalidModel
from tests.support.modelfiles import model_files, safetensors
from tests.support.models import FAMILIES, save_tiny

PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def laid(folder: Path, files: dict[str, bytes]) -> dict[str, Path]:
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return {name: folder / name for name in files}


def parts(weight_map: dict[str, str] | None = None) -> dict[str, bytes]:
    files = model_files()
    del files["model.safetensors"]
    for name, tensor in zip(PARTS, ("a", "b"), strict=True):
        files[name] = safetensors({tensor: ("F32", [2], [0, 8])}, bytes(8))
    index = {"weight_map": weight_map or {"a": PARTS[0], "b": PARTS[1]}}
    return files | {INDEX: json.dumps(index).encode()}


def without(files: dict[str, bytes], name: str) -> dict[str, bytes]:
    return {other: content for other, content in files.items() if other != name}


def test_a_whole_model_is_described(tmp_path: Path) -> None:
    info = model_complete(laid(tmp_path, model_files()))
    assert (info.model_type, info.parameters, info.config["hidden_size"]) == ("bert", 10, 8)


def test_a_model_in_parts_is_described(tmp_path: Path) -> None:
    assert model_complete(laid(tmp_path, parts())).parameters == 4


@pytest.mark.parametrize(
    ("files", "reason", "param"),
    [
        (without(model_files(), "config.json"), "no config.json", "/files"),
        (without(model_files(), "vocab.txt"), "no tokenizer", "/files"),
        (without(model_files(), "model.safetensors"), "no safetensors weights", "/files"),
        (without(parts(), PARTS[1]), f"{PARTS[1]} is missing", "/files"),
        (without(parts(), INDEX), f"{INDEX} is missing", "/files"),
        (parts() | {"model-00001-of-00003.safetensors": b""}, "not whole", "/files"),
        (parts() | {"model.safetensors": b""}, "one or the other", "/files"),
        (parts({"a": PARTS[0]}), "which part holds which tensor", f"/files/{INDEX}"),
        (parts({"a": "../../etc/passwd", "b": PARTS[1]}), "which part holds", f"/files/{INDEX}"),
        (
            model_files() | {"model.safetensors": b"\x80\x04]q."},
            "not a valid safetensors",
            "/files/model.safetensors",
        ),
        (model_files() | {"config.json": b"["}, "not valid JSON", "/files/config.json"),
        (model_files() | {"config.json": b"[]"}, "not a JSON object", "/files/config.json"),
        (model_files() | {"config.json": b"\xff"}, "not valid JSON", "/files/config.json"),
        (model_files() | {"config.json": b'{"a":' * 100_000}, "nested", "/files/config.json"),
        (model_files(deep=json.loads("[" * 40 + "]" * 40)), "nested", "/files/config.json"),
        (model_files(filler="x" * CONFIG_BYTES), "larger than", "/files/config.json"),
        (model_files(auto_map={"AutoModel": "evil.Model"}), "auto_map", "/files/config.json"),
        (
            model_files() | {"tokenizer_config.json": b'{"auto_map": {}}'},
            "auto_map",
            "/files/tokenizer_config.json",
        ),
        (model_files(architectures=["EvilModel"]), "EvilModel", "/files/config.json"),
        (model_files(architectures=["LlamaForCausalLM"]), "LlamaForCausalLM", "/files/config.json"),
        (model_files(architectures="BertModel"), "architecture", "/files/config.json"),
        (model_files() | {"tokenizer.json": b"{"}, "not valid JSON", "/files/tokenizer.json"),
    ],
)
def test_models_that_are_not_whole_or_not_safe_are_refused(
    tmp_path: Path, files: dict[str, bytes], reason: str, param: str
) -> None:
    with pytest.raises(InvalidModel, match=reason) as refused:
        model_complete(laid(tmp_path, files))
    assert refused.value.param == param


@pytest.mark.parametrize("field", ["attn_implementation", "_attn_implementation"])
def test_a_kernel_of_transformers_itself_is_no_code(tmp_path: Path, field: str) -> None:
    info = model_complete(laid(tmp_path, model_files(**{field: "sdpa", "inner": {field: "eager"}})))
    assert info.config[field] == "sdpa"


@pytest.mark.parametrize(
    "config",
    [{"model_type": "llama"}, {"model_type": ["bert"]}, {"hidden_size": "8"}, {"hidden_size": 10**9}],
)
def test_configs_that_cannot_be_pruned_are_refused(tmp_path: Path, config: dict[str, Any]) -> None:
    with pytest.raises(InvalidModel):
        model_complete(laid(tmp_path, model_files(**config)))


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model.pt",
        "x.pkl",
        "modeling.py",
        "../config.json",
        "a/config.json",
        "",
        "config.json\n",
        "MODEL.SAFETENSORS",
        "model-1-of-2.safetensors",
    ],
)
def test_a_model_takes_only_files_of_known_names(name: str) -> None:
    with pytest.raises(InvalidRequest):
        check_model_name(name)


@pytest.mark.parametrize(
    "name", ["train.txt", "train.py", "../train.csv", "train.csv.gz", "dev.csv", "train.parquet\n"]
)
def test_a_dataset_takes_only_files_of_known_names(name: str) -> None:
    with pytest.raises(InvalidRequest):
        check_dataset_name(name)


def test_sentencepiece_models_are_sent_as_tokenizer_json() -> None:
    for name in ("spm.model", "sentencepiece.bpe.model"):
        with pytest.raises(InvalidRequest, match=r"tokenizer\.json"):
            check_model_name(name)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_taken_as_transformers_saves_it(family: str, tmp_path: Path) -> None:
    save_tiny(tmp_path, family)
    files = {path.name: path for path in tmp_path.iterdir()}
    for name in files:
        check_model_name(name)
    assert model_complete(files).model_type == family


def test_known_names_are_taken() -> None:
    for name in ("config.json", *PARTS, INDEX, "vocab.txt", "merges.txt", "tokenizer.json"):
        check_model_name(name)
    for name in ("train.csv", "validation.jsonl", "test.parquet"):
        check_dataset_name(name)
