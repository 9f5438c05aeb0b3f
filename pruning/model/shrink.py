"""Remove dropped heads and neurons from a model physically."""

import torch
from torch import nn
from transformers import PreTrainedModel

from pruning.model.layers import Layer, Writer, family, layers, take
from pruning.planning.costs import Kept


def shrink(model: PreTrainedModel, kept: Kept) -> None:
    """Leave only the kept heads and neurons, in place.

    Exact when the model is baked: the columns that dropped units own in `attention_out` and `ffn_out` are
    zero. A sub-layer that lost everything adds its output bias as a constant. The config is left as it is,
    because no config of these families can say how many heads a layer has.

    Raises ValueError when `kept` does not fit the model, or leaves a layer fewer heads than its family allows.
    """
    stack = layers(model)
    if len(kept.heads) != len(stack):
        raise ValueError(f"kept names {len(kept.heads)} layers, the model has {len(stack)}")
    names = family(model)
    for layer, heads, neurons in zip(stack, kept.heads, kept.neurons, strict=True):
        _check(layer, heads, neurons, names.fewest_heads)
        for writers, reader, index in cut_linears(layer, heads, neurons):
            for writer in writers:
                take(writer.linear, writer.rows(index), dim=0)
            take(reader, index, dim=1)
        for name, value in ((names.head_count, len(heads)), (names.head_width, len(heads) * layer.head_size)):
            if name is not None:
                setattr(layer.head_owner, name, value)


def _check(layer: Layer, heads: tuple[int, ...], neurons: tuple[int, ...], fewest: int | None) -> None:
    if len(heads) < (layer.heads if fewest is None else fewest):
        raise ValueError(f"layer {layer.index} cannot do with {len(heads)} heads in this family")
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
            cuts = cut_linears(layer, heads, neurons), cut_linears(small, heads, neurons)
            for (writers, reader, index), (cut_writers, cut_reader, _) in zip(*cuts, strict=True):
                for writer, cut in zip(writers, cut_writers, strict=True):
                    for name, values in cut.linear.named_parameters():
                        writer.split(writer.linear.get_parameter(name).zero_())[:, index] = cut.split(values)
                reader.weight.zero_()[:, index] = cut_reader.weight


def cut_linears(
    layer: Layer, heads: tuple[int, ...], neurons: tuple[int, ...]
) -> tuple[tuple[tuple[Writer, ...], nn.Linear, torch.Tensor], ...]:
    """Of attention and FFN: the writers of the units, their reader, and the features that the kept units own."""
    return (
        (layer.head_writers, layer.attention_out, features(heads, layer.head_size)),
        (layer.neuron_writers, layer.ffn_out, torch.tensor(neurons, dtype=torch.int64)),
    )


def features(heads: tuple[int, ...], head_size: int) -> torch.Tensor:
    """The feature indices that the heads own: int64 (len(heads) * head_size,)."""
    first = torch.tensor(heads, dtype=torch.int64)[:, None] * head_size
    return (first + torch.arange(head_size)).reshape(-1)
