"""The only names that files of models and datasets may have."""

import re

from core.errors import InvalidRequest

MODEL_FILES = re.compile(
    r"config\.json|generation_config\.json|tokenizer\.json|tokenizer_config\.json|special_tokens_map\.json"
    r"|added_tokens\.json|vocab\.json|vocab\.txt|merges\.txt"
    r"|model\.safetensors|model\.safetensors\.index\.json|model-[0-9]{5}-of-[0-9]{5}\.safetensors"
)
DATASET_FILES = re.compile(r"(?:train|validation|test)\.(?:jsonl|csv|parquet)")
WEIGHTS = re.compile(r"model(?:-[0-9]{5}-of-[0-9]{5})?\.safetensors")


def check_model_name(name: str) -> None:
    """Raise InvalidRequest unless a model may have a file of this name."""
    if name.endswith((".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack")):
        message = f"{name!r:.120} is not accepted: weights must be safetensors, which hold no code. Convert them first."
        raise InvalidRequest(message, code="unsafe_file")
    if name.endswith(".model"):
        message = (
            f"{name!r:.120} is not read: send the tokenizer.json that the tokenizer's save_pretrained writes."
        )
        raise InvalidRequest(message, code="unknown_file")
    if not MODEL_FILES.fullmatch(name):
        allowed = "config.json, model.safetensors (or its numbered parts and index), tokenizer files"
        raise InvalidRequest(
            f"A model has no file {name!r:.120}; it may have {allowed}.", code="unknown_file"
        )


def check_dataset_name(name: str) -> None:
    """Raise InvalidRequest unless a dataset may have a file of this name."""
    if not DATASET_FILES.fullmatch(name):
        allowed = "train, validation and test as .jsonl, .csv or .parquet"
        message = f"A dataset has no file {name!r:.120}; it may have {allowed}."
        raise InvalidRequest(message, code="unknown_file")
