"""From scores and a budget to masks. Deterministic: equal scores are ranked by index, the first wins.

Budgets are upper bounds: what is kept never costs more, and the gap is smaller than one unit.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

SLACK = 1e-9
"""Relative error that sums of costs in floating point may have."""


def keep_top(scores: Tensor, count: int) -> Tensor:
    """The mask (bool, shape of `scores`) of the `count` largest scores; linear time, no sort."""
    flat = scores.detach().reshape(-1)
    if not 0 <= count <= flat.numel():
        raise ValueError(f"cannot keep {count} of {flat.numel()}")
    if count in (0, flat.numel()):
        return torch.full_like(scores, count > 0, dtype=torch.bool)
    smallest_kept = torch.kthvalue(flat, flat.numel() - count + 1).values
    kept = flat > smallest_kept
    ties = flat == smallest_kept
    kept |= ties & (ties.cumsum(0) <= count - kept.sum())
    return kept.reshape(scores.shape)


def keep_fractions(scores: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Keep `count` units in all, the same fraction of every group (at least one), the best of each."""
    sizes = [group.numel() for group in scores.values()]
    shares = [count * size / sum(sizes) for size in sizes]
    counts = round_within(shares, [1.0] * len(sizes), sizes, float(count))
    return {name: keep_top(group, kept) for (name, group), kept in zip(scores.items(), counts, strict=True)}


def keep_count(scores: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Keep the `count` best units of all groups together, at least one of each."""
    _check_floor(len(scores), count)
    flat = torch.cat([_with_floor(group) for group in scores.values()])
    kept = torch.split(keep_top(flat, count), [group.numel() for group in scores.values()])
    return {
        name: part.reshape(group.shape).clone()
        for (name, group), part in zip(scores.items(), kept, strict=True)
    }


def keep_within(scores: Mapping[str, Tensor], costs: Mapping[str, float], budget: float) -> dict[str, Tensor]:
    """Keep the best units whose cost stays within `budget`, at least one of each group.

    `costs` is per unit and constant in a group. A unit that no longer fits is passed over for later, cheaper
    ones. Sorts, so it is for heads and neurons. Raises ValueError when one unit of each group is too much.
    """
    names = list(scores)
    flat = torch.cat([_with_floor(scores[name]) for name in names])
    owner = [index for index, name in enumerate(names) for _ in range(scores[name].numel())]
    order = torch.sort(flat, descending=True, stable=True).indices.tolist()
    left = budget * (1 + SLACK)
    _check_floor(sum(costs.values()), left)
    kept = torch.zeros(len(owner), dtype=torch.bool)
    for unit in order:
        cost = costs[names[owner[unit]]]
        if cost <= left:
            kept[unit] = True
            left -= cost
    parts = torch.split(kept, [scores[name].numel() for name in names])
    return {name: part.clone().to(scores[name].device) for name, part in zip(names, parts, strict=True)}


def round_within(
    wanted: Sequence[float], costs: Sequence[float], limits: Sequence[int], budget: float
) -> list[int]:
    """Round fractional counts to whole ones, 1..limit each, within `budget`, with less than a unit to spare.

    First down, then up again by the largest remainder; where the floor of one lifts some counts, those furthest
    above what was wanted go down. Raises ValueError when one of each costs too much.
    """
    left = budget * (1 + SLACK)
    _check_floor(sum(costs), left)
    counts = [
        min(limit, max(1, math.floor(want + SLACK))) for want, limit in zip(wanted, limits, strict=True)
    ]
    left -= sum(count * cost for count, cost in zip(counts, costs, strict=True))
    while left < 0:
        lifted = (index for index, count in enumerate(counts) if count > 1)
        highest = max(lifted, key=lambda index: counts[index] - wanted[index])
        counts[highest] -= 1
        left += costs[highest]
    by_remainder = sorted(range(len(counts)), key=lambda index: counts[index] - wanted[index])
    growing = True
    while growing:
        growing = False
        for index in by_remainder:
            if counts[index] < limits[index] and costs[index] <= left:
                counts[index] += 1
                left -= costs[index]
                growing = True
    return counts


def _with_floor(scores: Tensor) -> Tensor:
    """The scores, flat, with the best one raised to infinity so that it is kept before all others."""
    flat = scores.detach().float().reshape(-1).clone()
    flat[flat.argmax()] = torch.inf
    return flat


def _check_floor(least: float, budget: float) -> None:
    # Planning refuses such requests before they run, so this is a fault of the caller.
    if least > budget:
        raise ValueError(f"one unit of every group costs {least:g}, more than the {budget:g} that may stay")
