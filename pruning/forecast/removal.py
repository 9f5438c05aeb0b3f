"""How many units of each kind a target takes away: exactly where all cost the same, else between two bounds.

A method keeps what costs at most the budget, with less than one unit to spare. Which of several kinds it takes its
scores decide; the bounds hold for every choice. Imports no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pruning.forecast.schemas import Span
from pruning.forecast.units import Kind
from pruning.granularity import Granularity
from pruning.planning.costs import pattern_ratio, total_cost
from pruning.planning.even import SLACK, even_counts
from pruning.planning.plan import Plan


@dataclass(frozen=True)
class Removal:
    """Rungs of each kind that go, together costing at least `cost.least` and at most `cost.most`.

    `limits` is how many rungs of each kind may go. Where the rungs are known, `exact` has them.
    """

    kinds: Sequence[Kind]
    limits: Sequence[int]
    cost: Span
    exact: tuple[int, ...] | None = None

    def sum(self, prices: Sequence[float]) -> Span:
        """What goes, when a rung of each kind has its price."""
        if self.exact is not None:
            return Span.exactly(sum(count * price for count, price in zip(self.exact, prices, strict=True)))
        return Span(
            least=self._extreme(prices, self.cost.least, dearest=False),
            most=self._extreme(prices, self.cost.most, dearest=True),
        )

    def units(self, index: int) -> Span:
        """How many units of one kind go: whole rungs."""
        only = [float(place == index) for place in range(len(self.kinds))]
        found, step = self.sum(only), self.kinds[index].step
        return Span(least=math.ceil(found.least - SLACK) * step, most=math.floor(found.most + SLACK) * step)

    def _extreme(self, prices: Sequence[float], cost: float, *, dearest: bool) -> float:
        """The largest or smallest price for which rungs of that cost, or parts of them, can go."""
        worth = [price / kind.cost for price, kind in zip(prices, self.kinds, strict=True)]
        total = 0.0
        for index in sorted(range(len(worth)), key=worth.__getitem__, reverse=dearest):
            taken = min(cost, self.limits[index] * self.kinds[index].cost)
            total += taken * worth[index]
            cost -= taken
        return total


def removal(
    plan: Plan, found: Sequence[Kind], stays: Sequence[int], totals: Sequence[float]
) -> Removal | None:
    """What the target of a plan takes away; None where only the job can know.

    `stays` are the units of each kind that every layer keeps, `totals` the least and the most that the ratio may be a
    fraction of: the parameters are not always known.
    """
    spec, layers = plan.spec, plan.shape.layers
    granularity = Granularity.parse(spec.granularity)
    if spec.target_ratio is None or plan.target_measure == "latency" or granularity.kind == "multilevel":
        return None
    sizes = [layers * kind.per_layer // kind.step for kind in found]
    limits = [
        size - max(layers * units // kind.step, 1)
        for size, units, kind in zip(sizes, stays, found, strict=True)
    ]
    whole = sum(size * kind.cost for size, kind in zip(sizes, found, strict=True))
    wanted = [spec.target_ratio * total for total in totals]
    if granularity.kind == "n_m":
        return Removal(found, sizes, Span.exactly(0.0), (round(pattern_ratio(granularity) * sizes[0]),))
    if spec.allocation == "native":
        exact = [_even(found, layers, whole - cost) for cost in wanted]
    elif len(found) == 1:
        exact = [(sizes[0] - math.floor((whole - cost) / found[0].cost * (1 + SLACK)),) for cost in wanted]
    else:
        slack = max(kind.cost for kind in found)
        return Removal(found, limits, Span(least=wanted[0], most=wanted[-1] + slack))
    if exact[0] == exact[-1]:
        return Removal(found, limits, Span.exactly(wanted[0]), exact[0])
    costs = [sum(count * kind.cost for count, kind in zip(each, found, strict=True)) for each in exact]
    return Removal(found, limits, Span(least=min(costs), most=max(costs)))


def dense_totals(plan: Plan, parameters: Span) -> list[float]:
    """The least and the most that the ratio of a plan may be a fraction of."""
    if plan.target_measure == "parameters":
        return [parameters.least, parameters.most]
    if plan.target_measure == "latency":
        return []
    return [total_cost(plan.shape, plan.target_measure, plan.length)]


def _even(found: Sequence[Kind], layers: int, budget: float) -> tuple[int, ...]:
    """Rungs that go when all layers keep as many."""
    sizes = [kind.per_layer // kind.step for kind in found]
    counts = even_counts(sizes, [layers * kind.cost for kind in found], budget)
    return tuple(layers * (size - count) for size, count in zip(sizes, counts, strict=True))
