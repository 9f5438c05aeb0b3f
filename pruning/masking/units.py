"""Granularities on a live model: groups of units, each unit kept or dropped as a whole.

A unit is one weight, one block or row of a matrix, one attention head or one FFN neuron. All units of a group
have the same cost, so that budgets are sums of counts times costs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from pruning.errors import InvalidSpec
from pruning.model.layers import Layer, Writer, layers, prunable_linears
from pruning.planning.costs import head_cost, neuron_cost
from pruning.planning.latency import LatencyTable, layer_costs
from pruning.planning.shape import ModelShape
from pruning.spec import Allocation, Granularity, Measure

Transform = Callable[[Tensor], Tensor]
Costs = tuple[float, ...]


class Units(Protocol):
    """One group of units."""

    @property
    def count(self) -> int:
        """How many units there are."""

    @property
    def cost(self) -> float:
        """What keeping one unit costs in the target measure, on average over the group."""

    @property
    def step(self) -> int:
        """How many units are kept or dropped together: a rung."""

    @property
    def price(self) -> "float | Tensor":
        """What keeping one more rung costs; (rungs,) float64 where that depends on how many are kept already."""

    @property
    def weights(self) -> int:
        """How many weights one unit owns."""

    def pool(self, transform: Transform) -> Tensor:
        """Sum `transform(weight)` (elementwise) over the weights of each unit: (count,), fp32."""

    def clear(self, kept: Tensor) -> None:
        """Zero in place all that belongs to units that are False in `kept` (count,)."""


@dataclass(frozen=True)
class WeightUnits:
    """Blocks of `block` = (rows, columns) weights of one linear; single weights when it is (1, 1).

    `parameter` is the full name of the linear's weight. Blocks `with_bias` are whole rows, which own their biases;
    these cost something when `counts_bias`.
    """

    linear: nn.Linear
    parameter: str
    block: tuple[int, int] = (1, 1)
    with_bias: bool = False
    counts_bias: bool = False

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
        """Weights in one block, and its bias where that counts."""
        return self.weights + (self.counts_bias and "bias" in self.owned)

    @property
    def step(self) -> int:
        """Blocks are kept one by one."""
        return 1

    @property
    def price(self) -> float:
        """What one block costs."""
        return self.cost

    @property
    def weights(self) -> int:
        """Weights in one block."""
        return self.block[0] * self.block[1]

    def pool(self, transform: Transform) -> Tensor:
        """Sum `transform(weight)` over each block: (count,), fp32, blocks row by row."""
        values = transform(stored(self.linear, "weight").detach()).float()
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

    def collapse(self, mask: Tensor) -> Tensor:
        """The mask (count,) of a mask (outputs, inputs) that is the same all over each block."""
        return mask[:: self.block[0], :: self.block[1]].reshape(-1)

    @property
    def owned(self) -> dict[str, Transform]:
        """The linear's parameters of which units own a part, each with what spreads a mask (count,) over it."""
        owned: dict[str, Transform] = {"weight": self.expand}
        if self.with_bias and self.linear.bias is not None:
            owned["bias"] = lambda mask: mask
        return owned

    def clear(self, kept: Tensor) -> None:
        """Zero the dropped blocks; biases stay, as in the papers, but those of whole rows."""
        with torch.no_grad():
            for name, spread in self.owned.items():
                self.linear.get_parameter(name).masked_fill_(~spread(kept), 0)


@dataclass(frozen=True)
class SlotUnits:
    """Heads or neurons of one layer: `size` consecutive inputs of the reader, and what the writers have for each.

    They are kept in rungs of `step`. `table`, where there is one, says what keeping 0, 1, ... of them costs; else each
    costs `cost`.
    """

    layer: int
    kind: Literal["heads", "neurons"]
    writers: tuple[Writer, ...]
    reader: nn.Linear
    size: int
    cost: float
    step: int = 1
    table: tuple[float, ...] | None = None

    @property
    def count(self) -> int:
        """How many heads or neurons there are."""
        return self.reader.in_features // self.size

    @property
    def price(self) -> float | Tensor:
        """What one more rung costs."""
        if self.table is None:
            return self.step * self.cost
        return torch.tensor(self.table[:: self.step], dtype=torch.float64).diff()

    @property
    def weights(self) -> int:
        """Weights of one unit in all linked matrices, biases not counted."""
        rows = sum(writer.parts * writer.size * writer.linear.in_features for writer in self.writers)
        return rows + self.reader.out_features * self.size

    def pool(self, transform: Transform) -> Tensor:
        """Sum `transform(weight)` over each unit's rows and columns in all linked matrices: (count,), fp32."""
        columns = transform(self.reader.weight.detach()).float().sum(0)
        sums = columns.reshape(self.count, self.size).sum(1)
        for writer in self.writers:
            rows = transform(writer.linear.weight.detach()).float().sum(1)
            sums = sums + writer.split(rows).sum(dim=(0, 2))
        return sums

    def widen(self, mask: Tensor) -> Tensor:
        """Spread a mask (count,) over the reader's inputs: (inputs,), same dtype."""
        return mask if self.size == 1 else mask.repeat_interleave(self.size)

    def clear(self, kept: Tensor) -> None:
        """Zero the rows, biases and columns of the dropped units.

        With both sides zero neither gets a gradient, so they stay zero in later training without a mask.
        """
        dropped = ~kept
        with torch.no_grad():
            self.reader.weight.masked_fill_(self.widen(dropped), 0)
            for writer in self.writers:
                writer.split(writer.linear.weight).masked_fill_(dropped[:, None, None], 0)
                if writer.linear.bias is not None:
                    writer.split(writer.linear.bias).masked_fill_(dropped[:, None], 0)


def stored(linear: nn.Linear, name: str) -> nn.Parameter:
    """A parameter as it is trained and saved, without the mask that may act on it."""
    if parametrize.is_parametrized(linear, name):
        return linear.get_parameter(f"parametrizations.{name}.original")
    return linear.get_parameter(name)


def head_units(layer: Layer, cost: float, table: Costs | None = None) -> SlotUnits:
    """The attention heads of one layer."""
    writers, reader = layer.head_writers, layer.attention_out
    return SlotUnits(layer.index, "heads", writers, reader, layer.head_width, cost, table=table)


def neuron_units(layer: Layer, cost: float, step: int = 1, table: Costs | None = None) -> SlotUnits:
    """The FFN neurons of one layer."""
    return SlotUnits(layer.index, "neurons", layer.neuron_writers, layer.ffn_out, 1, cost, step, table)


def block_units(linears: Mapping[str, nn.Linear], block: tuple[int, int] = (1, 1)) -> dict[str, WeightUnits]:
    """Blocks of every linear, by the linear's name; raises InvalidSpec when one does not divide."""
    groups = {}
    for name, linear in linears.items():
        if linear.out_features % block[0] or linear.in_features % block[1]:
            raise InvalidSpec(
                f"Blocks of {block[0]}x{block[1]} do not fit {name}, "
                f"which is {linear.out_features}x{linear.in_features}.",
                param="/granularity",
                remedy="Use a block whose rows and columns divide every matrix.",
            )
        groups[name] = WeightUnits(linear, f"{name}.weight", block)
    return groups


def row_units(model: PreTrainedModel, *, counts_bias: bool = False) -> dict[str, WeightUnits]:
    """Output rows of attention output, FFN in and FFN out, by the linear's name; each owns its bias.

    A row costs the inputs of its matrix, and its bias when `counts_bias`.

    Without its row in FFN in a neuron says what the activation says of 0, which for GELU and ReLU is 0: its column in
    FFN out then does nothing, but is neither zeroed nor counted. So costs add up and the removed ratio is exact; the
    released code of LEAP counts such columns as removed.
    """
    linears = _linears(model, lambda layer: (layer.attention_out, *layer.ffn_in, layer.ffn_out))
    return {
        name: WeightUnits(linear, f"{name}.weight", (1, linear.in_features), True, counts_bias)
        for name, linear in linears.items()
    }


def attention_block_units(model: PreTrainedModel, block: tuple[int, int]) -> dict[str, WeightUnits]:
    """Blocks of query, key, value and attention output; raises InvalidSpec when one does not divide."""
    attention = _linears(model, lambda layer: (layer.query, layer.key, layer.value, layer.attention_out))
    return block_units(attention, block)


def _linears(model: PreTrainedModel, of: Callable[[Layer], tuple[nn.Linear, ...]]) -> dict[str, nn.Linear]:
    """The linears that `of` names in every layer, by full module name."""
    chosen = {linear for layer in layers(model) for linear in of(layer)}
    return {name: linear for name, linear in prunable_linears(model).items() if linear in chosen}


def slot_units(
    model: PreTrainedModel,
    shape: ModelShape,
    measure: Measure,
    length: float,
    allocation: Allocation,
    *,
    step: int = 1,
    table: LatencyTable | None = None,
) -> dict[str, SlotUnits]:
    """Heads and neurons of every layer, named `0.heads`, `0.neurons`, ...; `native` ones as a config can say.

    Neurons are kept in rungs of `step`. A latency needs the `table` that says what units cost.
    """
    if table is None:
        head, neuron = head_cost(shape, measure, length), neuron_cost(shape, measure, length)
        heads = neurons = None
    else:
        heads, neurons = layer_costs(table, shape, "heads"), layer_costs(table, shape, "neurons")
        head, neuron = heads[-1] / shape.heads, neurons[-1] / shape.ffn
    groups = {}
    for layer in layers(model):
        if allocation == "global" or shape.free_heads:
            groups[f"{layer.index}.heads"] = head_units(layer, head, heads)
        groups[f"{layer.index}.neurons"] = neuron_units(layer, neuron, step, neurons)
    return groups


def units(
    model: PreTrainedModel,
    shape: ModelShape,
    granularity: Granularity,
    measure: Measure,
    length: float,
    allocation: Allocation,
    *,
    step: int = 1,
    table: LatencyTable | None = None,
) -> dict[str, Units]:
    """The groups that a request may prune, `step` and `table` as in `slot_units`; of `multilevel` the first stage's.

    Raises InvalidSpec for a granularity not made of these units.
    """

    def slots(*kinds: str) -> dict[str, Units]:
        found = slot_units(model, shape, measure, length, allocation, step=step, table=table)
        return {name: group for name, group in found.items() if group.kind in kinds}

    match granularity.kind:
        case "unstructured" | "block":
            return dict(block_units(prunable_linears(model), granularity.shape or (1, 1)))
        case "n_m":
            return dict(block_units(prunable_linears(model)))
        case "row":
            return dict(row_units(model, counts_bias=measure == "parameters"))
        case "head":
            return slots("heads")
        case "neuron":
            return slots("neurons")
        case "structured" | "multilevel":
            return slots("heads", "neurons")
        case "hybrid":
            return {**attention_block_units(model, granularity.shape or (1, 1)), **slots("neurons")}
    raise InvalidSpec(f"Granularity {granularity.kind!r} has no units.", param="/granularity")
