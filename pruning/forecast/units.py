"""The kinds of unit that a granularity has in a model of some shape, and what one of each costs. Imports no torch."""

import math
from dataclasses import dataclass

from pruning.forecast.schemas import Unit
from pruning.granularity import Granularity
from pruning.planning.catalogue import MethodInfo
from pruning.planning.costs import block_matrices, cost, head_cost, neuron_cost, unit_costs
from pruning.planning.levels import unit_multiple
from pruning.planning.parameters import LAYER_VECTORS
from pruning.planning.plan import Plan
from pruning.planning.shape import ModelShape
from pruning.spec import Measure


@dataclass(frozen=True)
class Kind:
    """Units that cost the same: `per_layer` in each layer, kept in rungs of `step` units, each rung for `cost`.

    `groups` are the matrices or sub-layers of a layer in which one rung stays. `weights`, `parameters` and `flops` are
    those of one unit; `leaves` says that a dropped one is removed from the model, else it becomes zeros. Up to
    `vectors` more parameters leave with it, norms and biases that no config.json tells.
    """

    unit: Unit
    of: str
    per_layer: int
    groups: int
    step: int
    cost: float
    weights: int
    parameters: int
    flops: float
    leaves: bool
    vectors: int = 0


def kinds(plan: Plan) -> list[Kind]:
    """The kinds of unit that may be dropped; of `multilevel` those of both stages, which has no common cost."""
    shape, granularity = plan.shape, Granularity.parse(plan.spec.granularity)
    match granularity.kind:
        case "n_m" | "unstructured" | "block":
            return [_blocks(plan, granularity)]
        case "row":
            return _rows(plan, granularity)
        case "hybrid":
            return [_blocks(plan, granularity), _neurons(plan, plan.neuron_step)]
        case "multilevel":
            block = granularity.shape or (1, 1)
            head, neuron = unit_multiple(block, shape.head_size), unit_multiple(block, 1)
            return [_heads(plan, head), _neurons(plan, neuron), _blocks(plan, granularity)]
        case "layer":
            return [_layers(plan)]
        case kind:
            native = plan.spec.allocation == "native" and not shape.free_heads
            heads = [] if kind == "neuron" or native else [_heads(plan, 1)]
            return heads + ([] if kind == "head" else [_neurons(plan, plan.neuron_step)])


def stay(plan: Plan, method: MethodInfo, kind: Kind) -> int:
    """How many units of a kind stay in every layer: a rung of each group, or none where layers may be emptied."""
    if kind.unit == "layer":
        return 0  # one of all layers stays, not one of each
    empties = method.empties_sublayers and plan.spec.allocation == "global"
    return 0 if empties and kind.leaves else kind.groups * kind.step


def _heads(plan: Plan, step: int) -> Kind:
    shape, length = plan.shape, plan.length
    return Kind(
        "head",
        "attention",
        shape.heads,
        1,
        step,
        _cost(plan, head_cost(shape, "weights", length), "head") * step,
        int(head_cost(shape, "weights", length)),
        int(head_cost(shape, "parameters", length)),
        head_cost(shape, "flops", length),
        leaves=True,
    )


def _neurons(plan: Plan, step: int) -> Kind:
    shape, length = plan.shape, plan.length
    return Kind(
        "neuron",
        "FFN",
        shape.ffn,
        1,
        step,
        _cost(plan, neuron_cost(shape, "weights", length), "neuron") * step,
        int(neuron_cost(shape, "weights", length)),
        int(neuron_cost(shape, "parameters", length)),
        neuron_cost(shape, "flops", length),
        leaves=True,
    )


def _layers(plan: Plan) -> Kind:
    shape, length = plan.shape, plan.length

    def one(measure: Measure) -> float:
        return cost(shape, shape.heads, shape.ffn, measure, length)

    weights, parameters = int(one("weights")), int(one("parameters"))
    vectors = LAYER_VECTORS * shape.hidden
    priced = one(plan.target_measure)
    return Kind("layer", "model", 1, 1, 1, priced, weights, parameters, one("flops"), True, vectors)


def _cost(plan: Plan, weights: float, unit: Unit) -> float:
    """What one head or neuron costs in the target measure; a latency is only known to the job."""
    if plan.target_measure == "latency":
        return weights
    of = head_cost if unit == "head" else neuron_cost
    return of(plan.shape, plan.target_measure, plan.length)


def _blocks(plan: Plan, granularity: Granularity) -> Kind:
    """Blocks, or single weights, of all matrices; of `hybrid` of the attention's."""
    shape = plan.shape
    matrices = block_matrices(shape, granularity)
    size = 1 if granularity.kind == "n_m" else math.prod(granularity.shape or (1, 1))
    total = sum(outputs * inputs for outputs, inputs in matrices)
    unit: Unit = "weight" if size == 1 else "block"
    of = "attention" if granularity.kind == "hybrid" else "attention and FFN"
    return Kind(unit, of, total // size, len(matrices), 1, size, size, size, 0.0, leaves=False)


def _rows(plan: Plan, granularity: Granularity) -> list[Kind]:
    shape, measure = plan.shape, plan.target_measure
    matrices = shape.matrices[len(shape.query_key_value) :]
    names = ["attention output", *["FFN in"] * (len(matrices) - 2), "FFN out"]
    costs = unit_costs(shape, granularity, measure, plan.length)
    biases = [shape.output_bias, *[shape.ffn_bias] * (len(matrices) - 1)]
    return [
        Kind("row", name, outputs, 1, 1, cost, inputs, inputs + bias, 0.0, leaves=False)
        for name, (outputs, inputs), cost, bias in zip(names, matrices, costs, biases, strict=True)
    ]


def divisors(number: int, most: int) -> tuple[int, ...]:
    """The divisors of a number up to `most`."""
    return tuple(size for size in range(1, min(number, most) + 1) if number % size == 0)


def common(shape: ModelShape, axis: int) -> int:
    """The greatest number that divides all matrices' outputs (axis 0) or inputs (axis 1)."""
    return math.gcd(*(matrix[axis] for matrix in shape.matrices))
