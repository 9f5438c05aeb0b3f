"""Write a model as one Hugging Face directory that plain `from_pretrained` loads."""

import json
import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pruning.model.conv1d import as_stored
from pruning.model.layers import Layer, family, layers, prunable_linears
from pruning.planning.costs import Kept
from pruning.planning.families import AUTO_CLASSES
from pruning.planning.family import Family
from pruning.planning.shape import ModelShape
from pruning.spec import Allocation

CODE_FILE = "modeling_pruned.py"


@dataclass(frozen=True)
class Bundle:
    """An exported directory. With `remote_code`, full speed needs `trust_remote_code=True`."""

    folder: Path
    remote_code: bool
    bytes: int


def code_template() -> str:
    """The one text that `modeling_pruned.py` of an export may have."""
    return files("pruning.delivery").joinpath("remote_code", CODE_FILE).read_text("utf-8")


def export(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    shape: ModelShape,
    kept: Kept | None,
    allocation: Allocation,
    out: Path,
) -> Bundle:
    """Write `out` atomically, replacing what was there; the model is not changed.

    `kept` None: the model is dense or only holds zeros, and is saved as it is. Otherwise it has been shrunk
    to `kept`, and `shape` is its shape before; any config can say that it has fewer layers. When every layer kept
    equally many neurons and all heads (or, where config.json can say it, equally many), the plain config says so and
    the file is small. Else (`global` only) the
    weights are padded: kept units first, then zeros, FFNs as wide as the widest; `layer_sizes` and
    `modeling_pruned.py` give the small model to those who load with `trust_remote_code=True`.

    Raises ValueError when the model is not shrunk to `kept`, or is uneven with `native` allocation.
    """
    scratch = out.with_name(f".{out.name}.{uuid.uuid4().hex}")
    scratch.mkdir(parents=True)
    try:
        remote_code = _write(model, shape, kept, allocation, scratch)
        tokenizer.save_pretrained(scratch)
        size = _settle(scratch)
        _replace(scratch, out)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return Bundle(out, remote_code, size)


def _write(
    model: PreTrainedModel, shape: ModelShape, kept: Kept | None, allocation: Allocation, folder: Path
) -> bool:
    """Write weights, config and, if need be, the code; says whether code was written."""
    if kept is None:
        model.save_pretrained(folder)
        return False
    sizes = [(len(heads), len(neurons)) for heads, neurons in kept.units]
    stack = layers(model)
    if sizes != [(layer.heads, layer.neurons) for layer in stack]:
        raise ValueError("the model has not been shrunk to what is kept")
    width = max(neurons for _, neurons in sizes)
    fields: dict[str, Any] = {family(model).ffn_config: width}
    heads = sizes[0][0]
    if all(size == (heads, width) for size in sizes) and _declarable(shape, heads):
        if heads < shape.heads:
            fields |= _fewer_heads(family(model), shape, heads)
        model.save_pretrained(folder)
        _edit_config(folder, fields)
        return False
    if allocation == "native":
        raise ValueError("native allocation needs heads and neurons that a plain config can say")
    model.save_pretrained(folder, state_dict=_padded(model, stack, shape, width))
    fields["layer_sizes"] = sizes
    fields["auto_map"] = _auto_map(model)
    _edit_config(folder, fields)
    (folder / CODE_FILE).write_text(code_template(), "utf-8")
    return True


def _declarable(shape: ModelShape, heads: int) -> bool:
    """Whether config.json can say that every layer has so many heads.

    Llama refuses heads that do not divide the hidden size, also when their width is given; a divisor's always do.
    """
    return heads == shape.heads or (shape.free_heads and heads > 0 and shape.heads % heads == 0)


def _fewer_heads(names: Family, shape: ModelShape, heads: int) -> dict[str, int]:
    fields = {
        names.heads_config: heads * shape.queries,
        names.key_heads_config: heads,
        names.head_size_config: shape.head_size,
    }
    return {field: value for field, value in fields.items() if field is not None}


def _auto_map(model: PreTrainedModel) -> dict[str, str]:
    """The class of `modeling_pruned.py` that stands for the model's own."""
    name = type(model).__name__
    tasks = [task for task, architecture in family(model).architectures.items() if architecture == name]
    return {AUTO_CLASSES[task]: f"modeling_pruned.{name}" for task in tasks}


def _padded(model: PreTrainedModel, stack: list[Layer], shape: ModelShape, width: int) -> dict[str, Tensor]:
    """The state dict with zeros after the kept units, up to all heads and `width` neurons in each layer."""
    names = {linear: name for name, linear in prunable_linears(model).items()}
    state: dict[str, Tensor] = model.state_dict()
    for layer in stack:
        for missing, size, writers, reader in (
            (shape.heads - layer.heads, layer.head_width, layer.head_writers, layer.attention_out),
            (width - layer.neurons, 1, layer.neuron_writers, layer.ffn_out),
        ):
            for writer in writers:
                for name, values in writer.linear.named_parameters():
                    ends = (0, 0) * values.dim() + (0, missing)
                    padded = pad(writer.split(values.detach()), ends).flatten(0, 2)
                    state[f"{names[writer.linear]}.{name}"] = as_stored(writer.linear, padded)
            columns = pad(reader.weight.detach(), (0, missing * size))
            state[f"{names[reader]}.weight"] = as_stored(reader, columns)
    return state


def _edit_config(folder: Path, fields: Mapping[str, Any]) -> None:
    """In the file, not on the model: its own config goes on describing the model in memory."""
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8")) | fields
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def _settle(folder: Path) -> int:
    """Force the files to disk; returns their bytes."""
    total = 0
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
        total += path.stat().st_size
    return total


def _replace(scratch: Path, out: Path) -> None:
    old = scratch.with_suffix(".old")
    if out.exists():
        out.rename(old)
    scratch.rename(out)
    shutil.rmtree(old, ignore_errors=True)
