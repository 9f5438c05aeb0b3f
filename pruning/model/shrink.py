"""Remove dropped heads and neurons from a model physically."""

from dataclasses import dataclass

import torch
from torch import nn
from transformers import PreTrainedModel

from pruning.model.depth import drop_layers
from pruning.model.layers import Layer, Writer, family, layers, take
from pruning.planning.costs import Kept
from pruning.planning.family import Family


def shrink(model: PreTrainedModel, kept: Kept) -> None:
    """Leave only the kept layers, heads and neurons, in place.

    Exact when the model is baked: the columns that dropped units own in `attention_out` and `ffn_out` are
    zero. A sub-layer that lost everything adds its output bias as a constant. The config says how many layers are
    left, and nothing else, because no config can say that layers differ. Whole layers may be gone already.

    Raises ValueError when `kept` does not fit the model, or leaves a layer fewer than its family allows.
    """
    stack = layers(model)
    if len(stack) not in (len(kept.heads), len(kept.stack)):
        raise ValueError(f"kept names {len(kept.heads)} layers, the model has {len(stack)}")
    if len(stack) > len(kept.stack):
        drop_layers(model, kept.stack)
        stack = layers(model)
    names = family(model)
    for layer, (heads, neurons) in zip(stack, kept.units, strict=True):
        _check(layer, heads, neurons, names)
        for cut in cuts(layer, heads, neurons):
            for writer in cut.writers:
                take(writer.linear, writer.rows(cut.units), dim=0)
            take(cut.reader, cut.features, dim=1)
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


def restore(model: PreTrainedModel, shrunk: PreTrainedModel, kept: Kept) -> None:
    """Copy what `shrunk` has learned into the dense `model`, in place; removed units are zero. Undoes `shrink`.

    `shrunk` was a copy of `model` before it was shrunk to `kept`.
    """
    dense = model.state_dict()
    with torch.no_grad():
        for name, value in shrunk.state_dict().items():
            if dense[name].shape == value.shape:
                dense[name].copy_(value)
        for layer, small, heads, neurons in zip(
            layers(model), layers(shrunk), kept.heads, kept.neurons, strict=True
        ):
            both = cuts(layer, heads, neurons), cuts(small, heads, neurons)
            for cut, done in zip(*both, strict=True):
                for writer, other in zip(cut.writers, done.writers, strict=True):
                    for name, values in other.linear.named_parameters():
                        whole = writer.linear.get_parameter(name).zero_()
                        writer.split(whole)[:, cut.units] = other.split(values)
                cut.reader.weight.zero_()[:, cut.features] = done.reader.weight


@dataclass(frozen=True)
class Cut:
    """What is kept of one sub-layer: `units` are the heads or neurons that stay, `features` the inputs of `reader`."""

    writers: tuple[Writer, ...]
    reader: nn.Linear
    units: torch.Tensor
    features: torch.Tensor


def cuts(layer: Layer, heads: tuple[int, ...], neurons: tuple[int, ...]) -> tuple[Cut, Cut]:
    """What the kept heads leave of the attention, and the kept neurons of the FFN."""
    head, neuron = (torch.tensor(kept, dtype=torch.int64) for kept in (heads, neurons))
    return (
        Cut(layer.head_writers, layer.attention_out, head, features(heads, layer.head_width)),
        Cut(layer.neuron_writers, layer.ffn_out, neuron, neuron),
    )


def features(heads: tuple[int, ...], width: int) -> torch.Tensor:
    """The features that heads of that width own: int64 (len(heads) * width,)."""
    first = torch.tensor(heads, dtype=torch.int64)[:, None] * width
    return (first + torch.arange(width)).reshape(-1)
