"""Which heads and neurons go, by the Fisher information of their masks (Kwon et al., NeurIPS 2022)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from pruning.masking.select import Price, each
from pruning.planning.even import SLACK


@dataclass(frozen=True)
class _Ranking:
    """Units of one kind from the most important per cost downwards; what the first 0, 1, 2 ... are worth and cost."""

    order: Tensor
    worth: Tensor
    price: Tensor

    @classmethod
    def of(cls, importance: Tensor, price: Tensor, mean: Tensor) -> Self:
        """All (units,) float64; they are ranked by their importance per `mean` price of their group."""
        usual = mean.clamp_min(torch.finfo(mean.dtype).tiny)
        order = torch.argsort(importance / usual, descending=True, stable=True)
        start = torch.zeros(1, dtype=torch.float64)
        return cls(
            order,
            torch.cat([start, importance[order].cumsum(0)]),
            torch.cat([start, price[order].cumsum(0)]),
        )


def mask_search(
    importance: Mapping[str, Tensor], heads: Sequence[str], prices: Mapping[str, Price], budget: float
) -> dict[str, Tensor]:
    """The masks that keep most information within a budget, section 4.1: bool (units,) by group.

    `importance` holds one (units,) tensor of diagonal Fisher information per group, `prices` what one unit of it costs,
    or each in turn where the best come first; groups in `heads` are one kind, all others the second. For every number
    of heads the rest of the budget goes to the best neurons; the best sum of information wins. That is optimal when
    units of a kind cost the same. One head stays where the budget allows one.
    """
    neurons = [name for name in importance if name not in heads]
    first, second = (_ranking(importance, names, prices) for names in (heads, neurons))
    left = budget * (1 + SLACK) - first.price
    count = torch.searchsorted(second.price, left, right=True) - 1
    worth = (first.worth + second.worth[count.clamp_min(0)]).masked_fill(count < 0, -torch.inf)
    if len(worth) > 1 and worth[1] > -torch.inf:
        worth[0] = -torch.inf
    best = int(worth.argmax())
    return {
        **_masks(importance, heads, first.order[:best]),
        **_masks(importance, neurons, second.order[: int(count[best])]),
    }


def _ranking(importance: Mapping[str, Tensor], names: Sequence[str], prices: Mapping[str, Price]) -> _Ranking:
    nothing = torch.zeros(0, dtype=torch.float64)
    values = [importance[name].double() for name in names]
    costs = [each(prices[name], value) for name, value in zip(names, values, strict=True)]
    means = [cost.mean().expand_as(cost) for cost in costs]
    return _Ranking.of(*(torch.cat([nothing, *parts]) for parts in (values, costs, means)))


def _masks(importance: Mapping[str, Tensor], names: Sequence[str], chosen: Tensor) -> dict[str, Tensor]:
    sizes = [len(importance[name]) for name in names]
    kept = torch.zeros(sum(sizes), dtype=torch.bool)
    kept[chosen] = True
    return dict(zip(names, (part.clone() for part in torch.split(kept, sizes)), strict=True))


def rearrange(gradients: Tensor, kept: Tensor) -> Tensor:
    """Exchange dropped units of one group for others, so that the mistakes they make together cancel, section 4.2.

    `gradients` (batches, units) are those of the loss by each unit's gate, `kept` (units,) bool the mask that was
    found by the diagonal. One pass over the kept units, the least important first: each is dropped too, and of all
    dropped then that one returns without which 1^T F 1 over the dropped is smallest, with F the Fisher information of
    the group. As many stay as before, and the sum never rises.
    """
    fisher = (gradients.T @ gradients).double()
    diagonal = fisher.diagonal()
    dropped = ~kept
    together = fisher @ dropped.to(fisher)  # F 1 over the dropped
    if not dropped.any():
        return kept
    for unit in torch.argsort(diagonal.masked_fill(dropped, torch.inf), stable=True)[: int(kept.sum())]:
        dropped[unit] = True
        together += fisher[unit]
        saved = (2 * together - diagonal).masked_fill(~dropped, -torch.inf)
        back = saved.argmax()
        dropped[back] = False
        together -= fisher[back]
    return ~dropped
