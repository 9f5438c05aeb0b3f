"""What heads and neurons cost, and which ratios a model can reach, by config.json alone. Imports no torch.

Counted are the linear weights of the transformer layers and, for FLOPs, their products and those of the
attention (two per multiply-add), as in the released code of K-prune (Park, Choi, Kang 2024). Not counted:
embeddings, norms, biases, softmax, activations, pooler and task head.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

from pydantic import field_validator, model_validator

from pruning.errors import InvalidModel
from pruning.planning.families import family_of
from pruning.spec import Allocation, Granularity, Measure, Model

_LIMITS = {"hidden": 8192, "heads": 256, "layers": 128, "ffn": 65_536}
_TABLES = {"vocab_size": 2_000_000, "max_position_embeddings": 65_536, "embedding_size": 8192}
_MATRICES = 6


@dataclass(frozen=True)
class ModelShape:
    """The sizes that costs depend on: `heads` and `ffn` are per layer, `hidden` = heads * `head_size`."""

    layers: int
    hidden: int
    heads: int
    head_size: int
    ffn: int

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
        return cls(layers, hidden, heads, hidden // heads, ffn)

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """(outputs, inputs) of one layer's six matrices: q, k, v, attention output, FFN in, FFN out."""
        square = (self.hidden, self.hidden)
        return (square, square, square, square, (self.ffn, self.hidden), (self.hidden, self.ffn))


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
    """Cost of one head: weights, or FLOPs of one sequence of `length` tokens (may be a mean)."""
    if measure == "weights":
        return 4 * shape.hidden * shape.head_size
    return 8 * shape.hidden * shape.head_size * length + 4 * length**2 * shape.head_size


def neuron_cost(shape: ModelShape, measure: Measure, length: float) -> float:
    """Cost of one FFN neuron: weights, or FLOPs of one sequence of `length` tokens."""
    return 2 * shape.hidden if measure == "weights" else 4 * shape.hidden * length


def cost(shape: ModelShape, heads: int, neurons: int, measure: Measure, length: float) -> float:
    """Cost of that many heads and neurons, whatever layers they are in."""
    return heads * head_cost(shape, measure, length) + neurons * neuron_cost(shape, measure, length)


def total_cost(shape: ModelShape, measure: Measure, length: float) -> float:
    """Cost of the dense model's layers."""
    return cost(shape, shape.layers * shape.heads, shape.layers * shape.ffn, measure, length)


def kept_cost(shape: ModelShape, kept: Kept, measure: Measure, length: float) -> float:
    """Cost of what is kept."""
    return cost(shape, sum(map(len, kept.heads)), sum(map(len, kept.neurons)), measure, length)


def removed_ratio(shape: ModelShape, kept: Kept, measure: Measure, length: float) -> float:
    """The fraction removed, 0 for the dense model."""
    return 1 - kept_cost(shape, kept, measure, length) / total_cost(shape, measure, length)


def largest_ratio(
    shape: ModelShape,
    granularity: Granularity,
    measure: Measure,
    length: float,
    *,
    allocation: Allocation = "global",
    empties_sublayers: bool = False,
) -> float:
    """The largest fraction that can be removed.

    One unit stays in every matrix or sub-layer that is pruned. A method that `empties_sublayers` may go
    further: it leaves one head and one neuron in the whole model. `native` allocation removes neurons only,
    as many in each layer.
    """
    total = total_cost(shape, measure, length)
    if granularity.kind in ("unstructured", "block"):
        rows, columns = granularity.shape or (1, 1)
        return 1 - shape.layers * _MATRICES * rows * columns / total
    floor = 1 if empties_sublayers and allocation == "global" else shape.layers
    heads = neurons = floor
    if granularity.kind == "neuron" or allocation == "native":
        heads = shape.layers * shape.heads
    elif granularity.kind == "head":
        neurons = shape.layers * shape.ffn
    return 1 - cost(shape, heads, neurons, measure, length) / total
