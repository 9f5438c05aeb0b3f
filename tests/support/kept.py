"""Uneven choices of heads and neurons, and the two ways to drop them without shrinking: gates and zeros."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.model.layers import layers
from pruning.model.shrink import features
from pruning.planning.costs import Kept
from pruning.planning.families import FAMILIES

UNEVEN = Kept(
    heads=((0, 2), (), (1, 2, 3)),
    neurons=((3, 5, 7, 40), tuple(range(1, 48, 3)), ()),
)
"""For three layers of 4 heads and 48 neurons: one layer without heads, another without neurons."""

EVEN = Kept(heads=((0, 1, 2, 3),) * 3, neurons=((0, 9, 30), (1, 2, 47), (4, 5, 6)))
"""For the same model: all heads, equally many neurons in each layer."""


def uneven(family: str) -> Kept:
    """UNEVEN, with the heads and neurons that no layer of the family can do without."""
    heads, neurons = UNEVEN.heads, UNEVEN.neurons
    match FAMILIES[family].fewest_heads:
        case None:
            heads = EVEN.heads
        case 1:
            heads = ((0, 2), (3,), (1, 2, 3))
    if FAMILIES[family].fewest_neurons:
        neurons = (*neurons[:2], (11,))
    return Kept(heads=heads, neurons=neurons)


def _masks(model: PreTrainedModel, kept: Kept) -> Iterator[tuple[nn.Linear, Tensor]]:
    """The linear that reads the units, and 1 for each of its inputs that stays."""
    for layer, heads, neurons in zip(layers(model), kept.heads, kept.neurons, strict=True):
        for reader, index in (
            (layer.attention_out, features(heads, layer.head_width)),
            (layer.ffn_out, torch.tensor(neurons, dtype=torch.int64)),
        ):
            yield reader, torch.zeros(reader.in_features).index_fill(0, index, 1.0)


@contextmanager
def gated(model: PreTrainedModel, kept: Kept) -> Iterator[None]:
    """Inside, what dropped units write is multiplied by zero just before it is read."""
    with ExitStack() as stack:
        for reader, mask in _masks(model, kept):
            hook = reader.register_forward_pre_hook(lambda _, args, mask=mask: (args[0] * mask,))
            stack.callback(hook.remove)
        yield


def bake(model: PreTrainedModel, kept: Kept) -> None:
    """Zero the columns that read dropped units."""
    with torch.no_grad():
        for reader, mask in _masks(model, kept):
            reader.weight.mul_(mask)
