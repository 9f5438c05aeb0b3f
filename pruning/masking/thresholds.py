"""Learned thresholds: scores rank the units of a group, a learned threshold says what fraction of them stays."""

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn

from pruning.masking.learned import LearnedMasks, StraightThrough
from pruning.masking.select import Price, keep_top, round_within
from pruning.masking.sensitivity import SensedMask
from pruning.masking.units import Units
from pruning.planning.even import even_counts

START = 5.0
"""Thresholds start at this many temperatures: every group keeps 99.3 % of its units."""

_REACH = 60.0  # a shift by this many temperatures keeps all or nothing
_BISECTIONS = 80


class Thresholds(nn.Module):
    """Learnable thresholds; each keeps the fraction sigmoid(threshold / temperature) of its groups.

    With `chain_rule` the task's gradient reaches a threshold through that sigmoid; without, directly, as in
    the released code.
    """

    def __init__(self, count: int, temperature: float, chain_rule: bool) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.full((count,), START * temperature))
        self.temperature = temperature
        self.chain_rule = chain_rule

    def fractions(self) -> Tensor:
        """The fraction each threshold keeps, (thresholds,)."""
        return torch.sigmoid(self.values / self.temperature)

    def signal(self, index: int) -> Tensor:
        """What the task's gradient of the groups of one threshold goes to, 0-d."""
        return (self.fractions() if self.chain_rule else self.values)[index]


class ThresholdMask(SensedMask):
    """A mask with learned scores, whose gradient also reaches the threshold number `index`."""

    def __init__(self, count: int, thresholds: Thresholds, index: int) -> None:
        super().__init__(count)
        self.index = index
        self._thresholds = (thresholds,)  # in a tuple, which hides it from the module's own parameters

    def forward(self) -> Tensor:
        """The mask (count,) in fp32, with gradients until it is frozen."""
        if not self.learning:
            return self.kept.float()
        signal = self._thresholds[0].signal(self.index)
        return cast(Tensor, cast(Any, StraightThrough).apply(self.scores, signal, self.kept))


class ThresholdMasks(LearnedMasks):
    """Masks of a whole model that keep each group's best units, as many as its threshold says.

    `owners` is the index of each group's threshold, which groups of equal size may share. `total` is the cost
    of the whole model, with what no group holds. The final masks keep of every group a multiple of its number in
    `multiples`, if it has one: as many as the budget says, rounded up, but no more than there are. With `even` their
    counts are such that a plain config says them.
    """

    shares: Tensor
    """(thresholds,): the part of the model's cost that each threshold governs."""

    def __init__(
        self,
        groups: Mapping[str, Units],
        owners: Sequence[int],
        thresholds: Thresholds,
        total: float,
        multiples: Mapping[str, int] = MappingProxyType({}),
        *,
        even: bool = False,
    ) -> None:
        named = list(zip(groups, owners, strict=True))
        sources = {name: ThresholdMask(groups[name].count, thresholds, owner) for name, owner in named}
        super().__init__(groups, sources, total)
        self.thresholds = thresholds
        self.even = even
        self.limits = [0] * len(thresholds.values)
        self.costs = [0.0] * len(thresholds.values)
        self.multiples = [1] * len(thresholds.values)
        self.steps = [1] * len(thresholds.values)
        self.prices: list[Price] = [0.0] * len(thresholds.values)
        for name, owner in named:
            self.multiples[owner] = multiples.get(name, 1)
            self.limits[owner] = groups[name].count
            self.costs[owner] += groups[name].cost
            self.steps[owner] = groups[name].step
            self.prices[owner] = self.prices[owner] + groups[name].price
        governed = [limit * cost / total for limit, cost in zip(self.limits, self.costs, strict=True)]
        self.register_buffer("shares", torch.tensor(governed))

    def remaining(self) -> Tensor:
        """The part of the model's cost that the thresholds keep, differentiable, 0-d."""
        return self.rest + (self.shares * self.thresholds.fractions()).sum()

    def refresh(self) -> None:
        """Let every group keep its best units, as many as its threshold says; one host sync for all."""
        fractions = self.thresholds.fractions().tolist()
        wanted = zip(fractions, self.limits, strict=True)
        self._keep_counts([max(1, math.ceil(part * limit)) for part, limit in wanted])

    def select(self, budget: float) -> None:
        """Shift all thresholds alike until the groups cost `budget`, and round to whole rungs and multiples."""
        shift = self._shift_within(budget)
        wanted = [want / step for want, step in zip(self._wanted(shift), self.steps, strict=True)]
        limits = [limit // step for limit, step in zip(self.limits, self.steps, strict=True)]
        if self.even:
            costs = [price.tolist() if isinstance(price, Tensor) else price for price in self.prices]
            rungs = even_counts(limits, costs, budget, wanted)
        else:
            rungs = round_within(wanted, self.prices, limits, budget)
        counts = [count * step for count, step in zip(rungs, self.steps, strict=True)]
        rounded = zip(counts, self.multiples, self.limits, strict=True)
        self._keep_counts([min(limit, -(-count // unit) * unit) for count, unit, limit in rounded])
        with torch.no_grad():
            self.thresholds.values.add_(shift * self.thresholds.temperature)

    def _keep_counts(self, counts: list[int]) -> None:
        for source in self._sources():
            source.kept.copy_(keep_top(source.scores, counts[source.index]))

    def _sources(self) -> Iterator[ThresholdMask]:
        return (cast(ThresholdMask, self.source(name)) for name in self.groups)

    def _wanted(self, shift: float) -> list[float]:
        """The fractional number of units each threshold keeps after a shift by so many temperatures."""
        logits = self.thresholds.values.detach().double() / self.thresholds.temperature + shift
        return [part * limit for part, limit in zip(torch.sigmoid(logits).tolist(), self.limits, strict=True)]

    def _shift_within(self, budget: float) -> float:
        """The largest common shift, in temperatures, whose counts (at least one rung each) cost `budget`."""

        def spent(shift: float) -> float:
            counts = (
                max(float(step), want) for want, step in zip(self._wanted(shift), self.steps, strict=True)
            )
            return sum(count * cost for count, cost in zip(counts, self.costs, strict=True))

        low, high = -_REACH, _REACH
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if spent(middle) <= budget else (low, middle)
        return low
