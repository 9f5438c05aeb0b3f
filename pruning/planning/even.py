"""Layers of one size, as a plain config declares them. Imports no torch."""

import math
from collections.abc import Sequence
from itertools import product

from pruning.errors import TargetUnreachable
from pruning.planning.costs import total_cost, unit_costs
from pruning.planning.shape import ModelShape
from pruning.spec import Granularity, PruneSpec

SLACK = 1e-9
"""Relative error that sums of costs in floating point may have."""


def even_counts(
    sizes: Sequence[int], costs: Sequence[float], budget: float, wanted: Sequence[float] | None = None
) -> list[int]:
    """How many units of each kind every layer keeps, at least one, within `budget`.

    A layer has `sizes` units of each kind; `costs` are those of one unit in every layer. The cheapest kind (neurons)
    takes what the others (heads) leave. Of these a layer keeps a divisor of what it has: any config can declare it,
    while Llama's refuses heads that do not divide the hidden size. It is the divisor nearest to `wanted`, by default
    the same fraction of every kind, with which less than one of the cheapest units is to spare; where there is none,
    the one that spares least. Raises ValueError when one of each costs too much.
    """
    left = budget * (1 + SLACK)
    if sum(costs) > left:
        raise ValueError(
            f"one unit of every group costs {sum(costs):g}, more than the {budget:g} that may stay"
        )
    part = budget / sum(size * cost for size, cost in zip(sizes, costs, strict=True))
    aims = wanted or [part * size for size in sizes]
    *dear, cheap = sorted(range(len(sizes)), key=lambda kind: -costs[kind])

    def rest(chosen: Sequence[int]) -> float:
        return left - sum(count * costs[kind] for count, kind in zip(chosen, dear, strict=True))

    def rank(chosen: Sequence[int]) -> tuple[float, float, int]:
        spare = max(0.0, rest(chosen) - (sizes[cheap] + 1) * costs[cheap])
        far = sum(abs(count - aims[kind]) for count, kind in zip(chosen, dear, strict=True))
        return spare, far, -sum(chosen)

    options = (
        option
        for option in product(*(_divisors(sizes[kind]) for kind in dear))
        if rest(option) >= costs[cheap]
    )
    best = min(options, key=rank)
    counts = dict(zip(dear, best, strict=True)) | {
        cheap: min(sizes[cheap], math.floor(rest(best) / costs[cheap]))
    }
    return [counts[kind] for kind in range(len(sizes))]


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def check_even(spec: PruneSpec, shape: ModelShape, length: float) -> None:
    """Raise TargetUnreachable where neurons cannot make up for heads that change by whole divisors.

    `spec` asks for layers of one size, of a model whose config.json can say their heads; `length` is that of a row.
    """
    granularity, measure = Granularity.parse(spec.granularity), spec.target_measure or "weights"
    if granularity.kind != "structured":
        return
    units = [shape.layers * each for each in unit_costs(shape, granularity, measure, length)]
    dense = total_cost(shape, measure, length)
    budget = (1 - spec.target_ratio) * dense
    counts = even_counts([shape.heads, shape.ffn], units, budget)
    kept = sum(count * each for count, each in zip(counts, units, strict=True))
    if budget - kept > units[1] * (1 + SLACK):
        nearest = math.floor((1 - kept / dense) * 1e4) / 1e4
        raise TargetUnreachable(
            f"No number of heads and neurons, the same in every layer, comes to target_ratio {spec.target_ratio}.",
            nearest=nearest,
            remedy=f"The nearest reachable target_ratio is {nearest}; or leave allocation out.",
        )
