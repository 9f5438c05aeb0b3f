"""Layers of one size, as a plain config declares them. Imports no torch."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, product

from pruning.errors import TargetUnreachable
from pruning.granularity import Granularity
from pruning.planning.costs import neuron_step, total_cost, unit_costs
from pruning.planning.shape import ModelShape
from pruning.spec import PruneSpec

SLACK = 1e-9
"""Relative error that sums of costs in floating point may have."""

Cost = float | Sequence[float]
"""What each unit of a kind costs, or each of its units in turn where the first ones cost otherwise than later ones."""


def even_counts(
    sizes: Sequence[int], costs: Sequence[Cost], budget: float, wanted: Sequence[float] | None = None
) -> list[int]:
    """How many units of each kind every layer keeps, at least one, within `budget`.

    A layer has `sizes` units of each kind; `costs` are those of one unit in every layer. The last kind (neurons)
    takes what the others (heads) leave. Of these a layer keeps a divisor of what it has: any config can declare it,
    while Llama's refuses heads that do not divide the hidden size. It is the divisor nearest to `wanted`, by default
    the same fraction of every kind, with which less than one of the last kind's units is to spare; where there is
    none, the one that spares least. Raises ValueError when one of each costs too much.
    """
    left = budget * (1 + SLACK)
    sums = [_sums(size, cost) for size, cost in zip(sizes, costs, strict=True)]
    least = sum(spent[1] for spent in sums)
    if least > left:
        raise ValueError(f"one unit of every group costs {least:g}, more than the {budget:g} that may stay")
    part = budget / sum(spent[-1] for spent in sums)
    aims = wanted or [part * size for size in sizes]
    *dear, last = range(len(sizes))

    def rest(chosen: Sequence[int]) -> float:
        return left - sum(sums[kind][count] for count, kind in zip(chosen, dear, strict=True))

    def rank(chosen: Sequence[int]) -> tuple[float, float, int]:
        spare = max(0.0, rest(chosen) - 2 * sums[last][-1] + sums[last][-2])
        far = sum(abs(count - aims[kind]) for count, kind in zip(chosen, dear, strict=True))
        return spare, far, -sum(chosen)

    options = (
        option
        for option in product(*(_divisors(sizes[kind]) for kind in dear))
        if rest(option) >= sums[last][1]
    )
    best = min(options, key=rank)
    return [*best, bisect_right(sums[last], rest(best)) - 1]


def _sums(size: int, cost: Cost) -> Sequence[float]:
    """What the first 0, 1, ... units of a kind cost, rising."""
    if isinstance(cost, Sequence):
        return list(accumulate(cost, initial=0.0))
    return [count * cost for count in range(size + 1)]


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def check_even(spec: PruneSpec, shape: ModelShape, length: float) -> None:
    """Raise TargetUnreachable where neurons cannot make up for heads that change by whole divisors.

    `spec` is settled and asks for layers of one size, of a model whose config.json can say their heads; `length` is
    that of a row.
    """
    granularity, measure = Granularity.parse(spec.granularity), spec.target_measure or "weights"
    if granularity.kind != "structured":
        return
    step = neuron_step(shape, granularity, spec.round_to or 1)
    units = [shape.layers * each for each in unit_costs(shape, granularity, measure, length, step)]
    sizes = [shape.heads, shape.ffn // step]
    dense = total_cost(shape, measure, length)
    whole = sum(size * each for size, each in zip(sizes, units, strict=True))
    budget = whole - spec.ratio * dense
    counts = even_counts(sizes, units, budget)
    kept = sum(count * each for count, each in zip(counts, units, strict=True))
    if budget - kept > units[1] * (1 + SLACK):
        nearest = math.floor((whole - kept) / dense * 1e4) / 1e4
        raise TargetUnreachable(
            f"No number of heads and neurons, the same in every layer, comes to target_ratio {spec.target_ratio}.",
            nearest=nearest,
            remedy=f"The nearest reachable target_ratio is {nearest}; or leave allocation out.",
        )
