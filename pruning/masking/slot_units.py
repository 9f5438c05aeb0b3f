"""Units that can leave the model: attention heads and FFN neurons."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.masking.units import Costs, Transform
from pruning.model.layers import Layer, Writer, layers
from pruning.planning.costs import head_cost, neuron_cost
from pruning.planning.latency import LatencyTable, layer_costs
from pruning.planning.shape import ModelShape
from pruning.spec import Allocation, Measure


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


def head_units(layer: Layer, cost: float, table: Costs | None = None) -> SlotUnits:
    """The attention heads of one layer."""
    writers, reader = layer.head_writers, layer.attention_out
    return SlotUnits(layer.index, "heads", writers, reader, layer.head_width, cost, table=table)


def neuron_units(layer: Layer, cost: float, step: int = 1, table: Costs | None = None) -> SlotUnits:
    """The FFN neurons of one layer."""
    return SlotUnits(layer.index, "neurons", layer.neuron_writers, layer.ffn_out, 1, cost, step, table)


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
