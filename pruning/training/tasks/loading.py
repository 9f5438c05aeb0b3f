"""Reading a model's configuration, tokenizer and weights, with a head for the task; no code of the model is run."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoTokenizer, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from pruning.errors import InvalidModel
from pruning.model.conv1d import as_linears
from pruning.planning.families import AUTO_CLASSES, FAMILIES
from pruning.training.tasks.base import Task


def load_config(model_dir: Path) -> PretrainedConfig:
    """Read config.json; raises InvalidModel when transformers cannot."""
    try:
        return AutoConfig.from_pretrained(model_dir, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, StrictDataclassError) as error:
        raise InvalidModel(f"The model's config.json cannot be read: {error}", param="/model") from error


def load_tokenizer(model_dir: Path, config: PretrainedConfig) -> PreTrainedTokenizerBase:
    """Read the model's tokenizer, set to give exactly the inputs the model takes; raises InvalidModel."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(model_dir, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # a broken tokenizer.json raises a bare Exception from the Rust parser
        raise InvalidModel(f"The model's tokenizer cannot be read: {error}", param="/model") from error
    if tokenizer.pad_token_id is None and not FAMILIES[config.model_type].decoder:
        raise InvalidModel("The tokenizer has no padding token.", param="/model", remedy="Set pad_token.")
    if len(tokenizer) > config.vocab_size:
        problem = f"The tokenizer has {len(tokenizer)} tokens, the model only {config.vocab_size}."
        raise InvalidModel(problem, param="/model", remedy="Send the tokenizer that belongs to the model.")
    if getattr(config, "type_vocab_size", 1) < 2:
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    tokenizer.padding_side = "right"
    return tokenizer


def count_parameters(config: PretrainedConfig, task: Task) -> int:
    """How many parameters a model of this configuration has with a head for `task`; builds it without memory."""
    headed = copy.deepcopy(config)
    headed.update(task.head_config)
    with torch.device("meta"):
        model = getattr(transformers, AUTO_CLASSES[task.kind]).from_config(headed)
    return int(model.num_parameters())


def load_model(model_dir: Path, task: Task, *, seed: int = 0) -> PreTrainedModel:
    """The model in fp32 on the CPU with a head for `task`; a head that is not there is initialised by `seed`.

    Reads safetensors only and runs no code of the model. Raises InvalidModel when weights are missing or have
    other shapes than config.json says, except those of a head that is new.
    """
    torch.manual_seed(seed)
    try:
        model, info = getattr(transformers, AUTO_CLASSES[task.kind]).from_pretrained(
            model_dir,
            **task.head_config,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise InvalidModel(f"The model cannot be loaded: {error}", param="/model") from error
    _check_loaded(model, info, task)
    for name in ("auto_map", "layer_sizes"):  # of an earlier export; what is loaded here is the padded model
        vars(model.config).pop(name, None)
    return as_linears(model)


def _check_loaded(model: PreTrainedModel, info: Mapping[str, Any], task: Task) -> None:
    faults = {*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])}
    if not task.labels.trained:
        body = f"{model.base_model_prefix}."
        faults = {key for key in faults if key.startswith(body) and ".pooler." not in key}
    if faults:
        listed = ", ".join(sorted(faults)[:5])
        raise InvalidModel(
            f"{len(faults)} weights are missing or do not have the shape that config.json says: {listed}.",
            param="/model",
            remedy="Send the weights that belong to this config.json.",
        )
