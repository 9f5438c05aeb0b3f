"""Groups that keep their units in steps: the best `step` of them are the first rung, the next best the second, ...

Rungs are chosen as units are, by their mean score. So sizes are round, and a price may fall or rise with the number of
units that are kept already, as the time of a matrix product does.
"""

from collections.abc import Mapping

from torch import Tensor

from pruning.masking.select import Scope, keep_best, keep_top
from pruning.masking.units import Units


def keep_units(
    groups: Mapping[str, Units],
    scores: Mapping[str, Tensor],
    budget: float,
    scope: Scope,
    *,
    even: bool = False,
) -> dict[str, Tensor]:
    """The best units within `budget`, in whole rungs, at least one of each group: masks (bool) of `scores` (count,).

    What is kept costs at most `budget`, and less by less than one rung. Raises ValueError like `keep_best`.
    """
    rungs = {name: to_rungs(scores[name], group) for name, group in groups.items()}
    prices = {name: group.price for name, group in groups.items()}
    kept = keep_best(rungs, prices, budget, scope, even=even)
    return {name: from_rungs(scores[name], kept[name], group) for name, group in groups.items()}


def to_rungs(scores: Tensor, group: Units) -> Tensor:
    """The mean score of every rung, best first, (count / step,); the scores themselves where rungs are single units."""
    if _single(group):
        return scores
    ranked = scores.detach().reshape(-1).sort(descending=True).values
    return ranked.reshape(-1, group.step).double().mean(1)


def from_rungs(scores: Tensor, rungs: Tensor, group: Units) -> Tensor:
    """The mask (bool, shape of `scores`) of the units on the kept rungs (bool), as far as these have no gap."""
    if _single(group):
        return rungs
    return keep_top(scores, group.step * int(rungs.long().cumprod(0).sum()))


def _single(group: Units) -> bool:
    """Whether every unit is a rung and costs the same, so that their order says nothing."""
    return group.step == 1 and not isinstance(group.price, Tensor)


def cost_of(group: Units, kept: Tensor) -> float:
    """What the kept units (bool, (count,)) of a group cost together."""
    rungs = int(kept.sum()) // group.step
    if isinstance(group.price, Tensor):
        return float(group.price[:rungs].sum())
    return rungs * group.price
