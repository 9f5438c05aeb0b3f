"""Masks that a penalty thins out, and the controller that makes the penalty as strong as the target needs.

How much a penalty removes depends on the scale of the task's gradients: on the loss, the batch, the size of a unit.
So its coefficient is steered: it is given in units of the task's gradient, and follows the score of the marginal
unit, the last one that the budget keeps, along a planned path to the cut.
"""

import math
from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor
from transformers import PreTrainedModel

from pruning.masking.learned import LearnedMasks, ScoredMask
from pruning.masking.select import SAMPLE, keep_top, lowest_kept
from pruning.masking.slot_units import SlotUnits
from pruning.masking.units import Units
from pruning.model.layers import layers, prunable_linears

BOUND = math.log(99)
"""Scores stay where the sigmoid of the penalty is in 0.01..0.99: beyond that no penalty could fetch them back."""

_PROPORTIONAL = 0.1
_INTEGRAL = _PROPORTIONAL**2 / 4  # critical damping: scores integrate the pressure that follows from the lag
_STRONGEST = 100.0
_MEMORY = 0.05  # weight of the newest step in the running mean of the squared gradients


def pressure(integral: float, lag: float) -> tuple[float, float]:
    """A proportional-integral controller: the new integral, and the pressure in units of the task's gradient.

    `lag` is how far the marginal score is above its path, counted in steps of its optimizer, which moves a score by
    about one step where the pressure is well above 1 and by that part of a step where it is below. Negative pressure
    pushes scores up: more has gone than was planned.
    """
    integral = _limited(integral + _INTEGRAL * lag)
    return integral, _limited(integral + _PROPORTIONAL * lag)


def _limited(value: float) -> float:
    return min(max(value, -_STRONGEST), _STRONGEST)


def part_shares(model: PreTrainedModel, groups: Mapping[str, Units], ffn_weight: float) -> list[float]:
    """The share of each group in a penalty that weighs attention and FFN, whatever number of groups each has.

    Of a part it is the part's weight (1, `ffn_weight`) over the number of parts, times the mean over its groups
    (Lagunas et al. 2021, released code: attention_lambda, dense_lambda). Rows and columns that share their scores
    are one group.
    """
    names = {linear: name for name, linear in prunable_linears(model).items()}
    ffn = {names[linear] for layer in layers(model) for linear in (*layer.ffn_in, layer.ffn_out)}
    in_ffn = [
        group.kind == "neurons" if isinstance(group, SlotUnits) else name in ffn
        for name, group in groups.items()
    ]
    parts = len(set(in_ffn))
    return [(ffn_weight if part else 1.0) / parts / in_ffn.count(part) for part in in_ffn]


class PenalisedMasks(LearnedMasks):
    """Masks of a whole model that keep what scores above a cut, with a penalty on all scores.

    The penalty is strength * sum over groups of share * mean of sigmoid(score - shift). By default every group has
    the same of the `shares`, one for each group, which add up to 1 (Sanh, Wolf and Rush 2020, released code, where
    the strength is lambda). `total` is the cost of the whole model, with what no group holds; with `even` the final
    masks keep one number of units in every group.
    """

    strength: Tensor
    """0-d, fp32: the coefficient of the penalty."""
    integral: Tensor
    """0-d, fp64: the memory of the controller."""
    energies: Tensor
    """(groups,), fp32: running mean of the task's squared gradients of each group's scores."""

    def __init__(
        self,
        groups: Mapping[str, Units],
        sources: Mapping[str, ScoredMask],
        total: float,
        shift: float,
        *,
        even: bool,
        shares: Sequence[float] | None = None,
    ) -> None:
        super().__init__(groups, sources, total)
        self.shift = shift
        self.shares = list(shares or [1 / len(groups)] * len(groups))
        self.even = even
        self.register_buffer("strength", torch.tensor(0.0))
        self.register_buffer("integral", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("energies", torch.zeros(len(groups)))

    def penalty(self) -> Tensor:
        """The penalty, 0-d, with gradients."""
        named = zip(self.scores(), self.shares, strict=True)
        means = [share * torch.sigmoid(scores - self.shift).mean() for scores, share in named]
        return self.strength * torch.stack(means).sum()

    def observe(self) -> None:
        """Measure the task's gradients: what the scores' gradients hold beside that of the penalty."""
        found = [
            (cast(Tensor, scores.grad) - self._push(scores, share)).square().mean()
            for scores, share in zip(self.scores(), self.shares, strict=True)
        ]
        energies = torch.stack(found)
        energies = torch.where(
            energies.isfinite(), energies, self.energies
        )  # fp16 tries scales that are too large
        self.energies.copy_(torch.where(self.energies > 0, self.energies.lerp(energies, _MEMORY), energies))

    def _push(self, scores: Tensor, share: float) -> Tensor:
        """The gradient of the penalty by the scores of one group, (count,)."""
        odds = torch.sigmoid(scores.detach() - self.shift)
        return self.strength * share * odds * (1 - odds) / len(scores)

    def steer(self, goal: float, budget: float, step: float) -> None:
        """Set the strength so that the marginal score goes to `goal`; `step` is the optimizer's step of a score.

        Pressure 1 is a penalty whose gradient at the marginal unit is the root mean square of the task's gradients,
        on average over groups.
        """
        marginal = float(self.marginal(budget))
        integral, push = pressure(float(self.integral), (marginal - goal) / step)
        self.integral.fill_(integral)
        odds = 1 / (1 + math.exp(self.shift - marginal))
        energies = zip(self.groups.values(), self.energies.tolist(), strict=True)
        scale = sum(group.count * math.sqrt(energy) for group, energy in energies)
        self.strength.fill_(push * scale / (odds * (1 - odds) * sum(self.shares)))

    def marginal(self, budget: float) -> Tensor:
        """The score, 0-d, of the last unit within `budget` when all groups compete."""
        # Odd, so that it does not fall into step with the rows of a matrix.
        stride = math.ceil(sum(group.count for group in self.groups.values()) / SAMPLE) | 1
        sample = {name: self.learned(name).importance()[::stride] for name in self.groups}
        costs = {name: group.cost * group.count / len(sample[name]) for name, group in self.groups.items()}
        return lowest_kept(sample, costs, budget)

    def bound(self) -> None:
        """Bring scores that ran away back to where the penalty has a slope."""
        with torch.no_grad():
            for scores in self.scores():
                scores.clamp_(self.shift - BOUND, self.shift + BOUND)

    def refresh(self, cut: float, floor: float) -> None:
        """Keep what scores above `cut`, but at least the fraction `floor` of every group; one host sync for all."""
        for name in self.groups:
            self.source(name).kept.copy_(self.learned(name).importance() > cut)
        counts = torch.stack([self.source(name).kept.sum() for name in self.groups]).tolist()
        for (name, group), count in zip(self.groups.items(), counts, strict=True):
            least = max(1, math.ceil(floor * group.count))
            if count < least:
                self.source(name).kept.copy_(keep_top(self.learned(name).importance(), least))

    def select(self, budget: float) -> None:
        """Keep the highest scores of all groups that `budget` allows, at least one of each group."""
        self.keep(budget, "global", even=self.even)
