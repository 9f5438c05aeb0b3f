"""From scores and a budget to masks. Deterministic: equal scores are ranked by index, the first wins.

Budgets are upper bounds: what is kept never costs more, and the gap is smaller than one unit.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from pruning.planning.even import SLACK, even_counts

SAMPLE = 65_536
"""Of more units than about this many, a fixed sample finds ranks."""

Price = float | Tensor
"""What each unit of a group costs; (units,) float64 where the first ones cost otherwise than later ones."""

Scope = Literal["global", "local"]
"""Whether all units compete, or those of each group among themselves, every group keeping the same fraction."""


def keep_best(
    scores: Mapping[str, Tensor],
    costs: Mapping[str, Price],
    budget: float,
    scope: Scope,
    *,
    even: bool = False,
) -> dict[str, Tensor]:
    """The best units within `budget`, at least one of each group: masks (bool) in the shapes of the scores.

    `costs` is per unit: constant in a group, or of each of its units in turn where the best come first. `even`: groups
    of one size and one cost keep one number of units (`even_counts`), whatever the scope. Raises ValueError when one
    unit of each group is too much.
    """
    if even or scope == "local":
        sizes = {name: group.numel() for name, group in scores.items()}
        counts = keep_counts(sizes, costs, budget, even=even)
        return {name: keep_top(group, counts[name]) for name, group in scores.items()}
    constant = [cost for cost in costs.values() if not isinstance(cost, Tensor)]
    if len(constant) == len(costs) and len(set(constant)) == 1:
        return keep_count(scores, math.floor(budget / constant[0] * (1 + SLACK)))
    return keep_within(scores, costs, budget)


def keep_counts(
    sizes: Mapping[str, int], costs: Mapping[str, Price], budget: float, *, even: bool = False
) -> dict[str, int]:
    """How many units each group keeps when all keep the same fraction, or with `even` the same number.

    Raises ValueError when one unit of each group is too much.
    """
    if even:
        kinds = {name: (size, _cost(costs[name])) for name, size in sizes.items()}
        groups = Counter(kinds.values())
        in_all = [
            [many * one for one in cost] if isinstance(cost, tuple) else many * cost
            for (_, cost), many in groups.items()
        ]
        chosen = dict(zip(groups, even_counts([size for size, _ in groups], in_all, budget), strict=True))
        return {name: chosen[kind] for name, kind in kinds.items()}
    part = budget / sum(spent(costs[name], size) for name, size in sizes.items())
    wanted = [part * size for size in sizes.values()]
    counts = round_within(wanted, [costs[name] for name in sizes], list(sizes.values()), budget)
    return dict(zip(sizes, counts, strict=True))


def _cost(price: Price) -> float | tuple[float, ...]:
    """A price that can be compared and hashed."""
    return tuple(price.tolist()) if isinstance(price, Tensor) else price


def spent(cost: Price, count: int) -> float:
    """What the first `count` units of a group cost."""
    return float(cost[:count].sum()) if isinstance(cost, Tensor) else count * cost


def lowest_kept(scores: Mapping[str, Tensor], costs: Mapping[str, float], budget: float) -> Tensor:
    """The score, 0-d, of the last unit within `budget` when all groups compete; on the device of the scores."""
    flat = torch.cat([group.detach().reshape(-1) for group in scores.values()])
    if len(set(costs.values())) == 1:
        count = math.floor(budget / next(iter(costs.values())) * (1 + SLACK))
        return kth_largest(flat, min(max(count, 1), flat.numel()))
    price = torch.cat([each(costs[name], group) for name, group in scores.items()])
    best, order = flat.sort(descending=True, stable=True)
    fits = price[order].cumsum(0) <= budget * (1 + SLACK)
    return torch.where(fits, best, best[0]).min()


def keep_top(scores: Tensor, count: int) -> Tensor:
    """The mask (bool, shape of `scores`) of the `count` largest scores; linear time, no sort."""
    flat = scores.detach().reshape(-1)
    if not 0 <= count <= flat.numel():
        raise ValueError(f"cannot keep {count} of {flat.numel()}")
    if count in (0, flat.numel()):
        return torch.full_like(scores, count > 0, dtype=torch.bool)
    smallest_kept = kth_largest(flat, count)
    kept = flat > smallest_kept
    ties = flat == smallest_kept
    kept |= ties & (ties.cumsum(0) <= count - kept.sum())
    return kept.reshape(scores.shape)


def kth_largest(values: Tensor, count: int) -> Tensor:
    """The `count`-th largest of values (n,), 0-d: linear time, no sort, no wait for the device."""
    if values.is_cuda:
        return kth_by_parts(values, count)
    return torch.kthvalue(values, values.numel() - count + 1).values


def kth_by_parts(values: Tensor, count: int) -> Tensor:
    """The same for a GPU, where `kthvalue` occupies a single block of threads, much slower than a sort of everything.

    `topk` occupies the whole GPU; what it gathers is the smaller of the two parts that meet at the k-th value.
    """
    others = values.numel() - count + 1
    if count <= others:
        return torch.topk(values, count, sorted=False).values.amin()
    return torch.topk(values, others, largest=False, sorted=False).values.amax()


def keep_in_rows(scores: Tensor, count: int) -> Tensor:
    """The mask (bool) of `count` scores of a matrix (rows, columns), equally many in each row, within one.

    When they do not divide evenly, the rows whose next score is largest keep one more.
    """
    rows, columns = scores.shape
    if not 0 <= count <= scores.numel():
        raise ValueError(f"cannot keep {count} of {scores.numel()}")
    each, more = divmod(count, rows)
    best, order = scores.detach().sort(dim=1, descending=True, stable=True)
    kept = torch.arange(columns, device=scores.device).expand(rows, columns) < each
    if more:
        kept = kept.clone()
        kept[:, each] = keep_top(best[:, each], more)
    return torch.zeros_like(kept).scatter_(1, order, kept)


def keep_in_groups(scores: Tensor, kept: int, size: int) -> Tensor:
    """The mask (bool) of the `kept` best of every `size` consecutive scores of a row (rows, columns): N:M."""
    groups = scores.detach().reshape(-1, size)
    best = groups.sort(dim=1, descending=True, stable=True).indices[:, :kept]
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(1, best, True).reshape(scores.shape)


def keep_count(scores: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Keep the `count` best units of all groups together, at least one of each."""
    _check_floor(len(scores), count)
    flat = torch.cat([_with_floor(group) for group in scores.values()])
    kept = torch.split(keep_top(flat, count), [group.numel() for group in scores.values()])
    return {
        name: part.reshape(group.shape).clone()
        for (name, group), part in zip(scores.items(), kept, strict=True)
    }


def keep_within(scores: Mapping[str, Tensor], costs: Mapping[str, Price], budget: float) -> dict[str, Tensor]:
    """Keep the best units whose cost stays within `budget`, at least one of each group.

    `costs` is per unit, as in `keep_best`. A unit that no longer fits is passed over for later, cheaper
    ones. Sorts all scores. Raises ValueError when one unit of each group is too much.
    """
    left = budget * (1 + SLACK)
    _check_floor(sum(spent(cost, 1) for cost in costs.values()), left)
    flat = torch.cat([_with_floor(group) for group in scores.values()])
    price = torch.cat([each(costs[name], group) for name, group in scores.items()])
    kept = torch.zeros_like(flat, dtype=torch.bool)
    order = flat.sort(descending=True, stable=True).indices
    while len(order):  # once for each cost at most: the first unit that does not fit is too dear for good
        count = int((price[order].cumsum(0) <= left).sum())
        kept[order[:count]] = True
        left -= float(price[order[:count]].sum())
        order = order[count:]
        order = order[price[order] <= left]
    parts = torch.split(kept, [group.numel() for group in scores.values()])
    return {name: part.clone() for name, part in zip(scores, parts, strict=True)}


def round_within(
    wanted: Sequence[float], costs: Sequence[Price], limits: Sequence[int], budget: float
) -> list[int]:
    """Round fractional counts to whole ones, 1..limit each, within `budget`, with less than a unit to spare.

    First down, then up again by the largest remainder; where the floor of one lifts some counts, those furthest
    above what was wanted go down. Raises ValueError when one of each costs too much.
    """
    left = budget * (1 + SLACK)
    _check_floor(sum(spent(cost, 1) for cost in costs), left)
    counts = [
        min(limit, max(1, math.floor(want + SLACK))) for want, limit in zip(wanted, limits, strict=True)
    ]
    left -= sum(spent(cost, count) for count, cost in zip(counts, costs, strict=True))
    while left < 0:
        lifted = (index for index, count in enumerate(counts) if count > 1)
        highest = max(lifted, key=lambda index: counts[index] - wanted[index])
        counts[highest] -= 1
        left += _one(costs[highest], counts[highest])
    by_remainder = sorted(range(len(counts)), key=lambda index: counts[index] - wanted[index])
    growing = True
    while growing:
        growing = False
        for index in by_remainder:
            if counts[index] < limits[index] and (price := _one(costs[index], counts[index])) <= left:
                counts[index] += 1
                left -= price
                growing = True
    return counts


def _one(cost: Price, index: int) -> float:
    """What the unit behind the first `index` costs."""
    return float(cost[index]) if isinstance(cost, Tensor) else cost


def each(cost: Price, scores: Tensor) -> Tensor:
    """What every unit of a group costs, flat, float64."""
    if isinstance(cost, Tensor):
        return cost.to(scores.device)
    return torch.full((scores.numel(),), cost, dtype=torch.float64, device=scores.device)


def _with_floor(scores: Tensor) -> Tensor:
    """The scores, flat, with the best one raised to infinity so that it is kept before all others."""
    flat = scores.detach().float().reshape(-1).clone()
    flat[flat.argmax()] = torch.inf
    return flat


def _check_floor(least: float, budget: float) -> None:
    # Planning refuses such requests before they run, so this is a fault of the caller.
    if least > budget:
        raise ValueError(f"one unit of every group costs {least:g}, more than the {budget:g} that may stay")
