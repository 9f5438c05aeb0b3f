"""Saying what an uploaded or fetched model is, without running or loading any of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from core.assets.jsonfiles import read_object
from core.assets.names import WEIGHTS
from core.assets.safetensors import Tensor, read_header
from core.db.base import Json
from pruning.errors import InvalidModel
from pruning.planning.families import family_of
from pruning.planning.shape import ModelShape

CONFIG_BYTES = 2**20
VOCABULARY_BYTES = 32 * 2**20  # the 250,000 pieces of XLM-RoBERTa take 17 MB
INDEX = "model.safetensors.index.json"
SMALL = ("config.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", INDEX)
LARGE = ("tokenizer.json", "vocab.json", "added_tokens.json")
TOKENIZERS = ({"tokenizer.json"}, {"vocab.txt"}, {"vocab.json", "merges.txt"})
_PART = re.compile(r"model-(\d{5})-of-(\d{5})\.safetensors")
_CODE = ("auto_map", "custom_pipelines")


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
    for name in LARGE:
        if name in files:
            read_object(files[name], max_bytes=VOCABULARY_BYTES)
    config = objects["config.json"]
    model_type = check_config(config)
    weights = {name: read_header(path) for name, path in files.items() if WEIGHTS.fullmatch(name)}
    if INDEX in objects:
        _check_index(objects[INDEX], weights)
    tensors = [tensor for header in weights.values() for tensor in header.values()]
    return ModelInfo(config, model_type, sum(tensor.elements for tensor in tensors))


def check_config(config: Json) -> str:
    """The family of a config.json; raises InvalidModel for code, or an unknown family or architecture."""
    _refuse_code("config.json", config)
    family = family_of(config)
    ModelShape.from_config(config)
    prefix = re.split("For|LMHead", next(iter(family.architectures.values())))[0]
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


def _refuse_code(name: str, content: Json) -> None:
    for key in _CODE:
        if key in content:
            raise InvalidModel(
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
