"""Saying what an uploaded or fetched model is, without running or loading any of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.assets.jsonfiles import read_object
from core.assets.names import WEIGHTS
from core.assets.safetensors import Tensor, read_header
from core.assets.tokenizers import check_ids, check_lines, check_tokenizer
from core.db.base import Json
from pruning.errors import InvalidModel
from pruning.planning.families import family_of
from pruning.planning.shape import ModelShape

CONFIG_BYTES = 2**20
VOCABULARY_BYTES = 32 * 2**20  # the 250,000 pieces of XLM-RoBERTa take 17 MB
VOCABULARY_VALUES = 3_000_000  # the pieces and merges of Gemma are 2 million
UNSTATED_WEIGHTS = 2**26
"""Weights that config.json may describe beyond those in the files: a head, or an embedding not saved."""
INDEX = "model.safetensors.index.json"
SMALL = ("config.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", INDEX)
VOCABULARIES = ("vocab.json", "added_tokens.json")
LINES = ("vocab.txt", "merges.txt")
TOKENIZERS = ({"tokenizer.json"}, {"vocab.txt"}, {"vocab.json", "merges.txt"})
_PART = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
MAX_LABELS = 10_000
_CODE = {"auto_map", "custom_pipelines"}
_NUMBERS = {"F64", "F32", "F16", "BF16"}
"""Types of parameters; integers are positions and the like, which some old files hold."""
_KERNELS = {"attn_implementation", "_attn_implementation", "_attn_implementation_internal"}
"""Fields whose values may name a repository of kernels."""


@dataclass(frozen=True)
class ModelInfo:
    """What the files of a model say: its config.json, its family, and how many weights it has."""

    config: Json
    model_type: str
    parameters: int


def model_complete(files: Mapping[str, Path]) -> ModelInfo:
    """Check the files of a model by their names; raises InvalidModel with the file and the remedy.

    Every JSON file is read within limits, none may ask for code, every weight file's header must be exact.
    """
    check_file_names(files)
    objects = {name: read_object(files[name], max_bytes=CONFIG_BYTES) for name in SMALL if name in files}
    for name, content in objects.items():
        _refuse_code(name, content)
    _check_tokenizers(files)
    config = objects["config.json"]
    model_type = check_config(config)
    weights = {name: read_header(path) for name, path in files.items() if WEIGHTS.fullmatch(name)}
    if INDEX in objects:
        _check_index(objects[INDEX], weights)
    tensors = [tensor for header in weights.values() for tensor in header.values()]
    parameters = sum(tensor.elements for tensor in tensors if tensor.dtype in _NUMBERS)
    _check_weights(config, parameters)
    return ModelInfo(config, model_type, parameters)


def check_config(config: Json) -> str:
    """The family of a config.json; raises InvalidModel for code, or an unknown family or architecture."""
    _refuse_code("config.json", config)
    family = family_of(config)
    ModelShape.from_config(config)
    prefix = re.split("For|LMHead", next(iter(family.architectures.values())))[0]
    _check_labels(config)
    architectures = config.get("architectures") or []
    known = re.compile(rf"{prefix}(Model|LMHeadModel|For[A-Z][A-Za-z]{{1,40}})")
    if not isinstance(architectures, list) or not all(
        isinstance(name, str) and known.fullmatch(name) for name in architectures
    ):
        raise InvalidModel(
            f"The architecture {architectures!r:.100} in config.json is not one of {config['model_type']}.",
            param="/files/config.json",
            remedy=f"Send one that transformers saved, such as {prefix}Model.",
        )
    return str(config["model_type"])


def check_file_names(names: Mapping[str, object]) -> None:
    """Raise InvalidModel unless these are a whole model: config, weights with every part, tokenizer."""
    if "config.json" not in names:
        raise InvalidModel("The model has no config.json.", param="/files", remedy="Add it.")
    if not any(needed <= names.keys() for needed in TOKENIZERS):
        remedy = "Add tokenizer.json, or vocab.txt, or vocab.json with merges.txt."
        raise InvalidModel("The model has no tokenizer.", param="/files", remedy=remedy)
    parts = [match for name in names if (match := _PART.fullmatch(name))]
    if "model.safetensors" in names:
        if parts or INDEX in names:
            raise InvalidModel(
                "The model has model.safetensors and parts.", param="/files", remedy="Send one or the other."
            )
        return
    if not parts:
        remedy = "Add model.safetensors; weights in other formats can be converted by save_pretrained."
        raise InvalidModel("The model has no safetensors weights.", param="/files", remedy=remedy)
    count = int(parts[0][2])
    expected = (
        {f"model-{part:05}-of-{count:05}.safetensors" for part in range(1, count + 1)}
        if count <= 999
        else set()
    )
    missing = sorted((expected | {INDEX}) - names.keys())
    if missing or {match[0] for match in parts} != expected:
        problem = f"{missing[0]} is missing" if missing else "they do not count up to their number"
        raise InvalidModel(
            f"The parts of the weights are not whole: {problem}.", param="/files", remedy="Send every part."
        )


def _check_tokenizers(files: Mapping[str, Path]) -> None:
    limits = {"max_bytes": VOCABULARY_BYTES, "max_values": VOCABULARY_VALUES}
    if (name := "tokenizer.json") in files:
        content = read_object(files[name], **limits)
        _refuse_code(name, {key: value for key, value in content.items() if key != "model"})
        check_tokenizer(name, content)
    for name in VOCABULARIES:
        if name in files:
            check_ids(name, read_object(files[name], **limits))
    for name in LINES:
        if name in files:
            check_lines(files[name])


def _check_labels(config: Json) -> None:
    names = config.get("id2label")
    if names is not None and (not isinstance(names, dict) or len(names) > MAX_LABELS):
        raise InvalidModel(
            f"id2label in config.json is not a map of at most {MAX_LABELS:,} names.",
            param="/files/config.json",
            remedy="Send a config.json as save_pretrained writes it.",
        )


def _check_weights(config: Json, parameters: int) -> None:
    """Refuse a config.json whose model is far larger than its files: it would be made and filled at random."""
    shape = ModelShape.from_config(config)
    layer = sum(outputs * inputs for outputs, inputs in shape.matrices)
    stated = shape.layers * layer + config.get("vocab_size", 0) * shape.hidden
    if not parameters:
        raise InvalidModel(
            "The weight files, model.safetensors or its parts, hold no weights.",
            param="/files",
            remedy="Save the model again.",
        )
    if stated > parameters + UNSTATED_WEIGHTS:
        raise InvalidModel(
            f"config.json describes {stated:,} weights, but the files hold {parameters:,}.",
            param="/files/config.json",
            remedy="Send the config.json that was saved with these weights.",
        )


def _refuse_code(name: str, content: Any) -> None:
    """Raise InvalidModel when an object, or one inside it, names code to be fetched."""
    for key in _CODE & content.keys():
        raise _code(name, key)
    for key in _KERNELS & content.keys():
        if "/" in str(content[key]):
            raise _code(name, key)
    for value in content.values():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                _refuse_code(name, inner)


def _code(name: str, key: str) -> InvalidModel:
    return InvalidModel(
        f"{name} asks for code of its own ({key}), which is never run.",
        param=f"/files/{name}",
        remedy="Send a model of a supported family without custom code.",
    )


def _check_index(index: Json, weights: Mapping[str, Mapping[str, Tensor]]) -> None:
    stated = index.get("weight_map")
    found = {tensor: name for name, header in weights.items() for tensor in header}
    if stated != found or len(found) != sum(map(len, weights.values())):
        raise InvalidModel(
            f"{INDEX} does not say which part holds which tensor.",
            param=f"/files/{INDEX}",
            remedy="Save the model again.",
        )
