"""What heads and neurons cost, and which ratios a model can reach, by config.json alone. Imports no torch.

`weights` are the linear weights of the transformer layers, `flops` their products and those of the attention (two per
multiply-add), as in the released code of K-prune (Park, Choi, Kang 2024). In a decoder a query is multiplied with the
keys up to its own: length * (length + 1) / 2 pairs of a sequence, whatever a kernel computes and masks away. Neither
counts embeddings, rotations, norms, biases, softmax, activations, pooler and task head. `parameters` are all that the
model stores, these included: a unit has the biases that leave with it, and most of what no unit has can never be
removed.
"""

import math
from collections.abc import Collection
from itertools import pairwise
from typing import Self

from pydantic import field_validator, model_validator

from pruning.granularity import Granularity
from pruning.options import Model
from pruning.planning.shape import ModelShape
from pruning.spec import Allocation, Measure


class Kept(Model):
    """What stays of each layer: the original indices of its heads and FFN neurons, increasing.

    `layers` are the original indices of the layers that stay, None where no layer is dropped as a whole; one that is
    has neither heads nor neurons.
    """

    heads: tuple[tuple[int, ...], ...]
    neurons: tuple[tuple[int, ...], ...]
    layers: tuple[int, ...] | None = None

    @field_validator("heads", "neurons")
    @classmethod
    def _increasing(cls, layers: tuple[tuple[int, ...], ...]) -> tuple[tuple[int, ...], ...]:
        for units in layers:
            if any(below >= above for below, above in pairwise((-1, *units))):
                raise ValueError("kept indices must be increasing and not negative")
        return layers

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if len(self.heads) != len(self.neurons):
            raise ValueError(f"heads name {len(self.heads)} layers but neurons {len(self.neurons)}")
        if self.layers is not None:
            for index, units in enumerate(zip(self.heads, self.neurons, strict=True)):
                if index not in self.layers and any(units):
                    raise ValueError(f"layer {index} is dropped and keeps units")
            if list(self.layers) != sorted({*self.layers} & {*range(len(self.heads))}):
                raise ValueError("kept layers must be increasing, and layers of the model")
        return self

    @classmethod
    def everything(cls, shape: ModelShape) -> Self:
        """Nothing removed."""
        heads, neurons = tuple(range(shape.heads)), tuple(range(shape.ffn))
        return cls(heads=(heads,) * shape.layers, neurons=(neurons,) * shape.layers)

    @classmethod
    def whole_layers(cls, shape: ModelShape, kept: Collection[int]) -> Self:
        """All of the layers `kept`, nothing of the others."""
        heads, neurons = tuple(range(shape.heads)), tuple(range(shape.ffn))
        stay = [index in kept for index in range(shape.layers)]
        return cls(
            heads=tuple(heads if stays else () for stays in stay),
            neurons=tuple(neurons if stays else () for stays in stay),
            layers=tuple(index for index, stays in enumerate(stay) if stays),
        )

    @property
    def stack(self) -> list[int]:
        """The original indices of the layers that the pruned model has."""
        return list(range(len(self.heads)) if self.layers is None else self.layers)

    @property
    def units(self) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """The heads and the neurons of the layers that the pruned model has, bottom to top."""
        return [(self.heads[index], self.neurons[index]) for index in self.stack]


def head_cost(shape: ModelShape, measure: Measure, length: float) -> float:
    """Cost of one head: weights, parameters, or FLOPs of one sequence of `length` tokens (may be a mean), alone.

    Its parameters are its weights and the biases of its queries, keys and values.
    """
    weights = 2 * (shape.queries + 1) * shape.hidden * shape.head_size
    if measure != "flops":
        biases = shape.queries + 2 if measure == "parameters" and shape.attention_bias else 0
        return weights + biases * shape.head_size
    pairs = length * (length + 1) / 2 if shape.causal else length**2
    relative = shape.positions * (4 * shape.hidden + 2 * shape.position_terms * length)
    return 2 * weights * length + shape.head_size * (4 * shape.queries * pairs + relative)


def neuron_cost(shape: ModelShape, measure: Measure, length: float) -> float:
    """Cost of one FFN neuron: weights, parameters (its bias with them), or FLOPs of one sequence of `length` tokens."""
    weights = (shape.ffn_inputs + 1) * shape.hidden
    if measure == "flops":
        return 2 * weights * length
    return weights + (shape.ffn_inputs if measure == "parameters" and shape.ffn_bias else 0)


def cost(shape: ModelShape, heads: int, neurons: int, measure: Measure, length: float) -> float:
    """Cost of that many heads and neurons, whatever layers they are in."""
    return heads * head_cost(shape, measure, length) + neurons * neuron_cost(shape, measure, length)


def total_cost(shape: ModelShape, measure: Measure, length: float) -> float:
    """What ratios are fractions of: the cost of the dense model's layers, or all of the model's parameters."""
    if measure == "parameters":
        return shape.parameters
    return cost(shape, shape.layers * shape.heads, shape.layers * shape.ffn, measure, length)


def kept_cost(shape: ModelShape, kept: Kept, measure: Measure, length: float) -> float:
    """Cost of what is left when only the units in `kept` stay."""
    left = cost(shape, sum(map(len, kept.heads)), sum(map(len, kept.neurons)), measure, length)
    units = cost(shape, shape.layers * shape.heads, shape.layers * shape.ffn, measure, length)
    return left + total_cost(shape, measure, length) - units


def removed_ratio(shape: ModelShape, kept: Kept, measure: Measure, length: float) -> float:
    """The fraction removed, 0 for the dense model."""
    return 1 - kept_cost(shape, kept, measure, length) / total_cost(shape, measure, length)


def block_matrices(shape: ModelShape, granularity: Granularity) -> tuple[tuple[int, int], ...]:
    """(outputs, inputs) of the matrices of one layer that are pruned by blocks: of `hybrid` the attention's."""
    return shape.attention if granularity.kind == "hybrid" else shape.matrices


def neuron_step(shape: ModelShape, granularity: Granularity, round_to: int) -> int:
    """In what steps a layer keeps neurons: `round_to`, halved until it divides the dense width.

    1 where no neuron is removed physically: zeros are no faster in round numbers.
    """
    return math.gcd(shape.ffn, round_to) if granularity.removes else 1


def unit_costs(
    shape: ModelShape, granularity: Granularity, measure: Measure, length: float, step: int = 1
) -> tuple[float, ...]:
    """What one unit costs, for each kind of unit that the granularity has; neurons count in steps of `step`.

    Every group of units has one cost. `multilevel` ends with blocks, which settle the ratio.
    """
    rows, columns = granularity.shape or (1, 1)
    neuron = step * neuron_cost(shape, measure, length)
    match granularity.kind:
        case "n_m":
            return (1,)
        case "unstructured" | "block" | "multilevel":
            return (rows * columns,)
        case "row":
            _, (_, read), *ffn = shape.matrices[len(shape.query_key_value) - 1 :]
            counted = measure == "parameters"
            output = read + (counted and shape.output_bias)
            return (output, *(inputs + (counted and shape.ffn_bias) for _, inputs in ffn))
        case "hybrid":
            return (rows * columns, neuron)
        case "neuron":
            return (neuron,)
        case "head":
            return (head_cost(shape, measure, length),)
        case "layer":
            return (cost(shape, shape.heads, shape.ffn, measure, length),)
        case _:
            return (head_cost(shape, measure, length), neuron)


def pattern_ratio(granularity: Granularity) -> float:
    """The fraction that N:M removes: N of every M weights, no more and no less."""
    assert granularity.shape is not None  # noqa: S101 - N:M always has its two numbers
    zeros, size = granularity.shape
    return zeros / size


def largest_ratio(
    shape: ModelShape,
    granularity: Granularity,
    measure: Measure,
    length: float,
    *,
    allocation: Allocation = "global",
    empties_sublayers: bool = False,
    step: int = 1,
) -> float:
    """The largest fraction that can be removed.

    One unit, of neurons `step`, stays in every matrix or sub-layer that is pruned, and all that is never pruned: query,
    key and value of `row`. A method that `empties_sublayers` may go further: it leaves one head and one step of neurons
    in the whole model. `native` allocation removes as many neurons in each layer, and as many heads where config.json
    can say so. The first layer always stays. N:M has one ratio only.
    """
    if granularity.kind == "n_m":
        return pattern_ratio(granularity)
    units = unit_costs(shape, granularity, measure, length, step)
    steps = shape.ffn // step
    removed: float
    match granularity.kind:
        case "unstructured" | "block" | "multilevel":
            matrices = block_matrices(shape, granularity)
            removed = shape.layers * (_weights(matrices) - len(matrices) * units[0])
        case "row":
            matrices = shape.matrices[len(shape.query_key_value) :]
            removed = shape.layers * sum(
                (outputs - 1) * unit for (outputs, _), unit in zip(matrices, units, strict=True)
            )
        case "hybrid":
            matrices, (block, neurons) = block_matrices(shape, granularity), units
            removed = shape.layers * (_weights(matrices) - len(matrices) * block + (steps - 1) * neurons)
        case "layer":
            removed = (shape.layers - 1) * units[0]
        case kind:
            floor = 1 if empties_sublayers and allocation == "global" else shape.layers
            heads = neurons = 0.0
            if kind != "neuron" and (allocation == "global" or shape.free_heads):
                heads = (shape.layers * shape.heads - floor) * units[0]
            if kind != "head":
                neurons = (shape.layers * steps - floor) * units[-1]
            removed = heads + neurons
    return removed / total_cost(shape, measure, length)


def _weights(matrices: tuple[tuple[int, int], ...]) -> int:
    return sum(outputs * inputs for outputs, inputs in matrices)
