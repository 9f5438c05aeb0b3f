"""Fewer layers: passed by while something is tried, or taken out of the model for good."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.model.layers import family

_INDEX = "layer_idx"
"""Where attention keeps the number of its layer, by which it finds its keys and values in a cache."""
_TYPES = "layer_types"
"""Where a config says of every layer whether its attention slides, in families where that may differ."""


def layer_modules(model: PreTrainedModel) -> list[nn.Module]:
    """The layers as they are called, bottom to top."""
    return list(model.base_model.get_submodule(family(model).layers).children())


def layer_parameters(model: PreTrainedModel) -> int:
    """How many parameters the last layer has; all have as many, but the first of a ModernBERT, which has no norm."""
    return sum(parameter.numel() for parameter in layer_modules(model)[-1].parameters())


def drop_layers(model: PreTrainedModel, kept: Sequence[int]) -> None:
    """Leave only the layers whose indices are in `kept`, increasing, in place; config and caches know of no others."""
    modules, types = layer_modules(model), getattr(model.config, _TYPES, None)
    _put(model, [modules[index] for index in kept], types and [types[index] for index in kept])


@contextmanager
def without_layers(model: PreTrainedModel, kept: Sequence[int]) -> Iterator[None]:
    """While the block runs the model has only these layers, and does not compute the others."""
    modules, types = layer_modules(model), getattr(model.config, _TYPES, None)
    drop_layers(model, kept)
    try:
        yield
    finally:
        _put(model, modules, types)


@contextmanager
def bypassed(model: PreTrainedModel, kept: Collection[int]) -> Iterator[None]:
    """While the block runs the other layers say what they read: gates, that cost what the layers cost."""

    def repeat(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        hidden = inputs[0]
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    with ExitStack() as hooks:
        for index, module in enumerate(layer_modules(model)):
            if index not in kept:
                hooks.callback(module.register_forward_hook(repeat).remove)
        yield


def _put(model: PreTrainedModel, modules: Sequence[nn.Module], types: Sequence[str] | None) -> None:
    names = family(model)
    path, _, name = names.layers.rpartition(".")
    setattr(model.base_model.get_submodule(path), name, nn.ModuleList(modules))
    for index, layer in enumerate(modules):
        for module in layer.modules():
            if getattr(module, _INDEX, None) is not None:
                setattr(module, _INDEX, index)
    setattr(model.config, names.layers_config, len(modules))
    if types is not None:
        setattr(model.config, _TYPES, list(types))


def hidden_of(output: Any) -> Tensor:
    """The hidden states that a layer says."""
    hidden: Tensor = output[0] if isinstance(output, tuple) else output
    return hidden
