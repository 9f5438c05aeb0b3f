"""What heads and neurons cost, and which ratios a model can reach, by config.json alone. Imports no torch.

`weights` are the linear weights of the transformer layers, `flops` their products and those of the attention (two per
multiply-add), as in the released code of K-prune (Park, Choi, Kang 2024). Neither counts embeddings, norms, biases,
softmax, activations, pooler and task head. `parameters` are all that the model stores, these included: a unit has the
biases that leave with it, and most of what no unit has can never be removed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Self

from pydantic import field_validator, model_validator

from pruning.errors import InvalidModel
from pruning.planning.families import family_of
from pruning.spec import Allocation, Granularity, Measure, Model

_LIMITS = {"hidden": 8192, "heads": 256, "layers": 128, "ffn": 65_536}
_TABLES = {"vocab_size": 2_000_000, "max_position_embeddings": 65_536, "embedding_size": 8192}
_SPANS = ("position_buckets", "max_relative_positions")


@dataclass(frozen=True)
class ModelShape:
    """The sizes that costs depend on: `heads` and `ffn` are per layer, `hidden` = heads * `head_size`.

    A neuron has `ffn_inputs` rows of FFN in, 2 where one gates the other; `fused` says that one matrix holds query,
    key and value. Of disentangled attention (He et al. 2021, equation 4), `positions` is how many relative positions
    every layer projects, `position_terms` how many products with them its scores add up. `attention_bias` and
    `ffn_bias` say whether these matrices have biases; `parameters` is how many the whole model has, 0 where that is
    not known.
    """

    layers: int
    hidden: int
    heads: int
    head_size: int
    ffn: int
    ffn_inputs: int = 1
    fused: bool = False
    positions: int = 0
    position_terms: int = 0
    attention_bias: bool = True
    ffn_bias: bool = True
    parameters: int = 0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read config.json; raises InvalidModel that names the missing, malformed or absurd field."""
        family = family_of(config)
        layers = _size(config, family.layers_config, _LIMITS["layers"])
        hidden = _size(config, family.hidden_config, _LIMITS["hidden"])
        heads = _size(config, family.heads_config, _LIMITS["heads"])
        ffn = _size(config, family.ffn_config, _LIMITS["ffn"])
        for name in _TABLES.keys() & config.keys():
            _size(config, name, _TABLES[name])
        if hidden % heads:
            raise InvalidModel(
                f"{family.hidden_config} = {hidden} in config.json is not a multiple of "
                f"{family.heads_config} = {heads}.",
                param="/model",
            )
        biases = {name: bool(config.get(field)) for name, field in family.biases.items()}
        shape = cls(layers, hidden, heads, hidden // heads, ffn, len(family.ffn_in), family.fused, **biases)
        return shape._disentangled(config) if family.disentangled else shape

    def _disentangled(self, config: Mapping[str, Any]) -> Self:
        """With what a DeBERTa's config.json says of relative positions."""
        if config.get("attention_head_size", self.head_size) != self.head_size:
            raise InvalidModel(
                f"attention_head_size in config.json must be {self.head_size}, the part of hidden_size that a "
                "head has.",
                param="/model",
            )
        if not (config.get("relative_attention") and config.get("share_att_key")):
            return self
        given = [name for name in _SPANS if config.get(name, -1) not in (-1, 0)]
        span = _size(config, [*given, "max_position_embeddings"][0], _TABLES["max_position_embeddings"])
        kinds = str(config.get("pos_att_type")).lower()  # "p2c|c2p" or a list
        return replace(self, positions=2 * span, position_terms=sum(kind in kinds for kind in ("c2p", "p2c")))

    @property
    def turning_length(self) -> float:
        """Tokens of the sequence in which a head costs fewest neurons' FLOPs; 0 when every token adds to the ratio."""
        return math.sqrt(self.positions * self.hidden)

    @property
    def query_key_value(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of the matrices that heads are written by."""
        return ((3 * self.hidden, self.hidden),) if self.fused else ((self.hidden, self.hidden),) * 3

    @property
    def attention(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of the attention's matrices: query, key, value, output."""
        return (*self.query_key_value, (self.hidden, self.hidden))

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of one layer's matrices: those of the attention, FFN in, FFN out."""
        return (*self.attention, (self.ffn_inputs * self.ffn, self.hidden), (self.hidden, self.ffn))


def _size(config: Mapping[str, Any], name: str, limit: int) -> int:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidModel(f"{name} must be a whole number in config.json, not {value!r}.", param="/model")
    if not 1 <= value <= limit:
        raise InvalidModel(f"{name} = {value} in config.json is outside 1..{limit}.", param="/model")
    return value


class Kept(Model):
    """What stays of each layer: the original indices of its heads and FFN neurons, increasing."""

    heads: tuple[tuple[int, ...], ...]
    neurons: tuple[tuple[int, ...], ...]

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
        return self

    @classmethod
    def everything(cls, shape: ModelShape) -> Self:
        """Nothing removed."""
        heads, neurons = tuple(range(shape.heads)), tuple(range(shape.ffn))
        return cls(heads=(heads,) * shape.layers, neurons=(neurons,) * shape.layers)


def head_cost(shape: ModelShape, measure: Measure, length: float) -> float:
    """Cost of one head: weights, parameters, or FLOPs of one sequence of `length` tokens (may be a mean), alone.

    Its parameters are its weights and the biases of its queries, keys and values.
    """
    if measure != "flops":
        biases = 3 if measure == "parameters" and shape.attention_bias else 0
        return (4 * shape.hidden + biases) * shape.head_size
    relative = shape.positions * (4 * shape.hidden + 2 * shape.position_terms * length)
    return shape.head_size * (8 * shape.hidden * length + 4 * length**2 + relative)


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

    Every group of units has one cost.
    """
    rows, columns = granularity.shape or (1, 1)
    neuron = step * neuron_cost(shape, measure, length)
    match granularity.kind:
        case "unstructured" | "block":
            return (rows * columns,)
        case "row":
            biases = (shape.attention_bias, shape.ffn_bias, shape.ffn_bias)
            matrices = shape.matrices[len(shape.query_key_value) :]
            counted = measure == "parameters"
            return tuple(
                inputs + (counted and bias) for (_, inputs), bias in zip(matrices, biases, strict=True)
            )
        case "hybrid":
            return (rows * columns, neuron)
        case "neuron":
            return (neuron,)
        case "head":
            return (head_cost(shape, measure, length),)
        case _:
            return (head_cost(shape, measure, length), neuron)


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
    in the whole model. `native` allocation removes neurons only, as many in each layer.
    """
    units = unit_costs(shape, granularity, measure, length, step)
    steps = shape.ffn // step
    removed: float
    match granularity.kind:
        case "unstructured" | "block":
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
        case kind:
            floor = 1 if empties_sublayers and allocation == "global" else shape.layers
            heads = neurons = 0.0
            if kind != "neuron" and allocation == "global":
                heads = (shape.layers * shape.heads - floor) * units[0]
            if kind != "head":
                neurons = (shape.layers * steps - floor) * units[-1]
            removed = heads + neurons
    return removed / total_cost(shape, measure, length)


def _weights(matrices: tuple[tuple[int, int], ...]) -> int:
    return sum(outputs * inputs for outputs, inputs in matrices)
