"""Granularities on a live model: groups of units, each unit kept or dropped as a whole.

A unit is one weight, one block of a matrix, one attention head or one FFN neuron. All units of a group have
the same cost, so that budgets are sums of counts times costs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.errors import InvalidSpec
from pruning.model.layers import Layer, layers, prunable_linears
from pruning.planning.costs import ModelShape, head_cost, neuron_cost
from pruning.spec import Allocation, Granularity, Measure

Transform = Callable[[Tensor], Tensor]


class Units(Protocol):
    """One group of units."""

    @property
    def count(self) -> int:
        """How many units there are."""

    @property
    def cost(self) -> float:
        """What keeping one unit costs: weights, or FLOPs per sequence."""

    @property
    def weights(self) -> int:
        """How many weights one unit owns."""

    def pool(self, transform: Transform) -> Tensor:
        """Sum `transform(weight)` (elementwise) over the weights of each unit: (count,), fp32."""

    def clear(self, kept: Tensor) -> None:
        """Zero in place all that belongs to units that are False in `kept` (count,)."""


@dataclass(frozen=True)
class WeightUnits:
    """Blocks of `block` = (rows, columns) weights of one linear; single weights when it is (1, 1)."""

    linear: nn.Linear
    parameter: str
    block: tuple[int, int] = (1, 1)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return self.linear.out_features // self.block[0], self.linear.in_features // self.block[1]

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return self.grid[0] * self.grid[1]

    @property
    def cost(self) -> float:
        """Weights in one block."""
        return self.weights

    @property
    def weights(self) -> int:
        """Weights in one block."""
        return self.block[0] * self.block[1]

    def pool(self, transform: Transform) -> Tensor:
        """Sum `transform(weight)` over each block: (count,), fp32, blocks row by row."""
        values = transform(self.linear.weight.detach()).float()
        if self.block == (1, 1):
            return values.reshape(-1)
        tiles = values.reshape(self.grid[0], self.block[0], self.grid[1], self.block[1])
        return tiles.sum(dim=(1, 3)).reshape(-1)

    def expand(self, mask: Tensor) -> Tensor:
        """Spread a mask (count,) over the weights: (outputs, inputs), same dtype."""
        tiles = mask.reshape(self.grid)
        if self.block == (1, 1):
            return tiles
        return tiles.repeat_interleave(self.block[0], 0).repeat_interleave(self.block[1], 1)

    def clear(self, kept: Tensor) -> None:
        """Zero the dropped blocks; biases stay, as in the papers."""
        with torch.no_grad():
            self.linear.weight.masked_fill_(~self.expand(kept), 0)


@dataclass(frozen=True)
class SlotUnits:
    """Heads or neurons of one layer: `size` consecutive outputs of the writers, inputs of the reader."""

    layer: int
    kind: Literal["heads", "neurons"]
    writers: tuple[nn.Linear, ...]
    reader: nn.Linear
    size: int
    cost: float

    @property
    def count(self) -> int:
        """How many heads or neurons there are."""
        return self.reader.in_features // self.size

    @property
    def weights(self) -> int:
        """Weights of one unit in all linked matrices, biases not counted."""
        rows = sum(linear.in_features for linear in self.writers) + self.reader.out_features
        return rows * self.size

    def pool(self, transform: Transform) -> Tensor:
        """Sum `transform(weight)` over each unit's rows and columns in all linked matrices: (count,), fp32."""
        features = transform(self.reader.weight.detach()).float().sum(0)
        for linear in self.writers:
            features = features + transform(linear.weight.detach()).float().sum(1)
        return features.reshape(self.count, self.size).sum(1)

    def widen(self, mask: Tensor) -> Tensor:
        """Spread a mask (count,) over the reader's inputs: (inputs,), same dtype."""
        return mask if self.size == 1 else mask.repeat_interleave(self.size)

    def clear(self, kept: Tensor) -> None:
        """Zero the rows, biases and columns of the dropped units.

        With both sides zero neither gets a gradient, so they stay zero in later training without a mask.
        """
        dropped = ~self.widen(kept)
        with torch.no_grad():
            self.reader.weight.masked_fill_(dropped, 0)
            for linear in self.writers:
                linear.weight.masked_fill_(dropped[:, None], 0)
                if linear.bias is not None:
                    linear.bias.masked_fill_(dropped, 0)


def head_units(layer: Layer, cost: float) -> SlotUnits:
    """The attention heads of one layer; raises InvalidSpec when several query heads share one key head."""
    if layer.kv_heads != layer.heads:
        raise InvalidSpec(
            "Heads that share keys and values cannot be dropped one by one.", param="/granularity"
        )
    writers = (layer.query, layer.key, layer.value)
    return SlotUnits(layer.index, "heads", writers, layer.attention_out, layer.head_size, cost)


def neuron_units(layer: Layer, cost: float) -> SlotUnits:
    """The FFN neurons of one layer."""
    return SlotUnits(layer.index, "neurons", layer.ffn_in, layer.ffn_out, 1, cost)


def weight_units(model: PreTrainedModel, block: tuple[int, int] = (1, 1)) -> dict[str, WeightUnits]:
    """Blocks of every prunable linear, by the linear's name; raises InvalidSpec when one does not divide."""
    groups = {}
    for name, linear in prunable_linears(model).items():
        if linear.out_features % block[0] or linear.in_features % block[1]:
            raise InvalidSpec(
                f"Blocks of {block[0]}x{block[1]} do not fit {name}, "
                f"which is {linear.out_features}x{linear.in_features}.",
                param="/granularity",
                remedy="Use a block whose rows and columns divide every matrix.",
            )
        groups[name] = WeightUnits(linear, f"{name}.weight", block)
    return groups


def slot_units(
    model: PreTrainedModel, shape: ModelShape, measure: Measure, length: float, allocation: Allocation
) -> dict[str, SlotUnits]:
    """Heads and neurons of every layer, named `0.heads`, `0.neurons`, ...; neurons only when `native`."""
    groups = {}
    for layer in layers(model):
        if allocation == "global":
            groups[f"{layer.index}.heads"] = head_units(layer, head_cost(shape, measure, length))
        groups[f"{layer.index}.neurons"] = neuron_units(layer, neuron_cost(shape, measure, length))
    return groups


def units(
    model: PreTrainedModel,
    shape: ModelShape,
    granularity: Granularity,
    measure: Measure,
    length: float,
    allocation: Allocation,
) -> dict[str, Units]:
    """The groups that a request may prune; raises InvalidSpec for a granularity not made of these units."""
    if granularity.kind == "structured":
        return dict(slot_units(model, shape, measure, length, allocation))
    if granularity.kind in ("unstructured", "block"):
        return dict(weight_units(model, granularity.shape or (1, 1)))
    raise InvalidSpec(f"Granularity {granularity.kind!r} has no units.", param="/granularity")
