"""Layers of one size, as a plain config declares them. Imports no torch."""

import math
from collections.abc import Sequence
from itertools import product

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
