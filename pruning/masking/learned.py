"""Learned masks: scores rank the units of a group, a learned threshold says what fraction of them stays."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from pruning.masking.masks import MaskSet, MaskSource
from pruning.masking.select import keep_top, round_within
from pruning.masking.units import Units

START = 5.0
"""Thresholds start at this many temperatures: every group keeps 99.3 % of its units."""

_REACH = 60.0  # a shift by this many temperatures keeps all or nothing
_BISECTIONS = 80


class StraightThrough(torch.autograd.Function):
    """Forward the mask; backward, its gradient goes to the scores as it is, of kept and dropped units.

    `fraction` (0-d) receives the sum of the gradient over the kept units: the derivative of the loss with
    respect to a common factor on all that survives (LEAP, released code). `sensitivity` (count,), when given,
    adds up the squared gradients.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, fraction: Tensor, kept: Tensor, sensitivity: Tensor | None
    ) -> Tensor:
        """The mask `kept` (count,) in the dtype of the scores (count,)."""
        ctx.save_for_backward(kept)
        ctx.sensitivity = sensitivity
        return kept.to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """The gradients of scores and fraction for that of the mask, (count,)."""
        (kept,) = ctx.saved_tensors
        (gradient,) = gradients
        if ctx.sensitivity is not None:
            ctx.sensitivity.addcmul_(gradient, gradient)
        return gradient, (gradient * kept).sum(), None, None


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


class LearnedMask(MaskSource):
    """A mask with learned scores (count,), fp32, which start at 0; `LearnedMasks` refreshes `kept`."""

    sensitivity: Tensor
    """(count,), fp32: the squared gradients of the mask, summed over the backward passes while `sensing`."""

    def __init__(self, count: int, thresholds: Thresholds, index: int) -> None:
        super().__init__(torch.ones(count, dtype=torch.bool))
        self.scores = nn.Parameter(torch.zeros(count))
        self.register_buffer("sensitivity", torch.zeros(count))
        self.sensing = False
        self.index = index
        self._thresholds = (thresholds,)  # in a tuple, which hides it from the module's own parameters

    def forward(self) -> Tensor:
        """The mask (count,) in fp32, with gradients until it is frozen."""
        if not self.scores.requires_grad:
            return self.kept.float()
        signal = self._thresholds[0].signal(self.index)
        sensitivity = self.sensitivity if self.sensing else None
        return cast(Tensor, cast(Any, StraightThrough).apply(self.scores, signal, self.kept, sensitivity))


class LearnedMasks(MaskSet):
    """Learned masks of a whole model.

    `owners` is the index of each group's threshold, which groups of equal size may share. `total` is the cost
    of the whole model, with what no group holds.
    """

    shares: Tensor
    """(thresholds,): the part of the model's cost that each threshold governs."""
    frozen: Tensor
    """0-d, bool: whether the masks are final."""

    def __init__(
        self,
        groups: Mapping[str, Units],
        owners: Sequence[int],
        thresholds: Thresholds,
        total: float,
    ) -> None:
        named = list(zip(groups, owners, strict=True))
        sources = {name: LearnedMask(groups[name].count, thresholds, owner) for name, owner in named}
        super().__init__(groups, sources)
        self.thresholds = thresholds
        self.limits = [0] * len(thresholds.values)
        self.costs = [0.0] * len(thresholds.values)
        for name, owner in named:
            self.limits[owner] = groups[name].count
            self.costs[owner] += groups[name].cost
        governed = [limit * cost / total for limit, cost in zip(self.limits, self.costs, strict=True)]
        self.rest = 1 - sum(governed)
        self.register_buffer("shares", torch.tensor(governed))
        self.register_buffer("frozen", torch.tensor(False))

    def learned(self) -> list[LearnedMask]:
        """Every group's mask."""
        return [cast(LearnedMask, source) for source in self.sources.values()]

    def scores(self) -> list[nn.Parameter]:
        """Every group's scores."""
        return [source.scores for source in self.learned()]

    def sense(self, on: bool) -> None:
        """Add up each unit's sensitivity in the backward passes to come, or no longer."""
        for source in self.learned():
            source.sensing = on

    def rank_by_sensitivity(self, strength: float) -> None:
        """Raise every score by `strength` times its unit's sensitivity, the root of the sum of squares, over the
        group's mean."""
        with torch.no_grad():
            for source in self.learned():
                sensitivity = source.sensitivity.sqrt()
                mean = sensitivity.mean().clamp(min=torch.finfo(torch.float32).tiny)
                source.scores.add_(sensitivity / mean, alpha=strength)

    def remaining(self) -> Tensor:
        """The part of the model's cost that the thresholds keep, differentiable, 0-d."""
        return self.rest + (self.shares * self.thresholds.fractions()).sum()

    def refresh(self) -> None:
        """Let every group keep its best units, as many as its threshold says; one host sync for all."""
        fractions = self.thresholds.fractions().tolist()
        wanted = zip(fractions, self.limits, strict=True)
        self._keep([max(1, math.ceil(part * limit)) for part, limit in wanted])

    def project(self, budget: float) -> None:
        """Shift all thresholds alike until the groups cost `budget`, round to whole units, and freeze.

        The groups then cost at most `budget`, and less by less than one unit.
        """
        shift = self._shift_within(budget)
        self._keep(round_within(self._wanted(shift), self.costs, self.limits, budget))
        with torch.no_grad():
            self.thresholds.values.add_(shift * self.thresholds.temperature)
        self.frozen.fill_(True)
        self.freeze()

    def freeze(self) -> None:
        """Stop learning scores and thresholds; the masks stay as they are."""
        for parameter in (*self.scores(), self.thresholds.values):
            parameter.requires_grad_(False)

    def _keep(self, counts: list[int]) -> None:
        for name in self.groups:
            source = cast(LearnedMask, self.source(name))
            source.kept.copy_(keep_top(source.scores, counts[source.index]))

    def _wanted(self, shift: float) -> list[float]:
        """The fractional number of units each threshold keeps after a shift by so many temperatures."""
        logits = self.thresholds.values.detach().double() / self.thresholds.temperature + shift
        return [part * limit for part, limit in zip(torch.sigmoid(logits).tolist(), self.limits, strict=True)]

    def _shift_within(self, budget: float) -> float:
        """The largest common shift, in temperatures, whose counts (at least one each) cost `budget`."""

        def spent(shift: float) -> float:
            counts = (max(1.0, want) for want in self._wanted(shift))
            return sum(count * cost for count, cost in zip(counts, self.costs, strict=True))

        low, high = -_REACH, _REACH
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2
            low, high = (middle, high) if spent(middle) <= budget else (low, middle)
        return low
