"""Remove dropped heads and neurons from a model physically."""

import torch
from transformers import PreTrainedModel

from pruning.model.layers import Layer, family, layers, take
from pruning.planning.costs import Kept
from pruning.planning.family import Family


def shrink(model: PreTrainedModel, kept: Kept) -> None:
    """Leave only the kept heads and neurons, in place.

    Exact when the model is baked: the columns that dropped units own in `attention_out` and `ffn_out` are
    zero. A sub-layer that lost everything adds its output bias as a constant. The config is left as it is,
    because no config can say that layers differ.

    Raises ValueError when `kept` does not fit the model, or leaves a layer fewer than its family allows.
    """
    stack = layers(model)
    if len(kept.heads) != len(stack):
        raise ValueError(f"kept names {len(kept.heads)} layers, the model has {len(stack)}")
    names = family(model)
    for layer, heads, neurons in zip(stack, kept.heads, kept.neurons, strict=True):
        _check(layer, heads, neurons, names)
        _shrink_attention(layer, heads)
        _shrink_ffn(layer, neurons)
        for name, value in (
            (names.head_count, len(heads)),
            (names.head_width, len(heads) * layer.head_width),
        ):
            if name is not None:
                setattr(layer.head_owner, name, value)


def _check(layer: Layer, heads: tuple[int, ...], neurons: tuple[int, ...], names: Family) -> None:
    if len(heads) < (layer.heads if names.fewest_heads is None else names.fewest_heads):
        raise ValueError(f"layer {layer.index} cannot do with {len(heads)} heads in this family")
    if len(neurons) < names.fewest_neurons:
        raise ValueError(f"layer {layer.index} cannot do with {len(neurons)} neurons in this family")
    if max(heads, default=-1) >= layer.heads or max(neurons, default=-1) >= layer.neurons:
        raise ValueError(
            f"layer {layer.index} has {layer.heads} heads and {layer.neurons} neurons: fewer than kept names"
        )


def _shrink_attention(layer: Layer, heads: tuple[int, ...]) -> None:
    for writer in layer.head_writers:
        take(writer.linear, writer.rows(torch.tensor(heads, dtype=torch.int64)), dim=0)
    take(layer.attention_out, features(heads, layer.head_width), dim=1)


def _shrink_ffn(layer: Layer, neurons: tuple[int, ...]) -> None:
    index = torch.tensor(neurons, dtype=torch.int64)
    for writer in layer.neuron_writers:
        take(writer.linear, writer.rows(index), dim=0)
    take(layer.ffn_out, index, dim=1)


def features(heads: tuple[int, ...], width: int) -> torch.Tensor:
    """The features that heads of that width own: int64 (len(heads) * width,)."""
    first = torch.tensor(heads, dtype=torch.int64)[:, None] * width
    return (first + torch.arange(width)).reshape(-1)
