"""Spend a budget on the units with the best score."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pruning.masking.select import Price, each

_ROUNDING = 1e-9
"""Relative slack of the budget, so that prices that add up to it are not refused for the last bit of the sum."""


def search(scores: Sequence[Tensor], prices: Sequence[Price], budget: float) -> list[Tensor]:
    """Keep the best units of all groups together within the budget, K-prune's Algorithm 1.

    `scores` holds one (units,) tensor per group, per unit of cost; `prices` the cost of one unit of each group, or of
    each of its units in turn. Units are taken in falling order of score (ties: the earlier group and unit first) until
    the next does not fit; one sort and one running sum instead of the released code's scan. A group may end up empty.
    Returns one boolean (units,) per group, True = keep.
    """
    sizes = [len(group) for group in scores]
    price = torch.cat([each(cost, group) for cost, group in zip(prices, scores, strict=True)])
    order = torch.argsort(torch.cat(list(scores)), descending=True, stable=True)
    affordable = price[order].cumsum(0) <= budget * (1 + _ROUNDING)
    kept = torch.zeros(len(order), dtype=torch.bool)
    kept[order[affordable]] = True
    return list(torch.split(kept, sizes))
