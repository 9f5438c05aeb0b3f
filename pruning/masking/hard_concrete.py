"""The hard concrete gate: a random mask in [0, 1] that is often exactly 0 or 1, and whose scores have a true gradient.

Louizos, Welling and Kingma 2018, with the constants of their paper and of Sanh, Wolf and Rush 2020.
"""

import math

import torch
from torch import Tensor

from pruning.masking.learned import ScoredMask
from pruning.masking.penalised import PenalisedMasks
from pruning.masking.slot_units import SlotUnits
from pruning.masking.units import Units
from pruning.masking.weight_units import WeightUnits, stored

TEMPERATURE = 2 / 3
LOW, HIGH = -0.1, 1.1
"""The sigmoid is stretched to this interval, then cut to [0, 1]."""

CUT = math.log(-LOW / HIGH)
"""The score up to which the gate without noise is shut."""

SHIFT = TEMPERATURE * CUT
"""A random gate is open, that is above 0, with the probability sigmoid(score - SHIFT)."""

_MARGIN = 1e-4
"""Noise keeps this distance from 0 and 1, where its log-odds are infinite."""

_CRACK = 0.01


def sampled(scores: Tensor, noise: Tensor) -> Tensor:
    """The gate in training, in the shape of the scores; `noise` is the log-odds of uniform random numbers."""
    return _stretch(torch.sigmoid((noise + scores) / TEMPERATURE))


def expected(scores: Tensor) -> Tensor:
    """The gate in evaluation, without noise and without temperature, in the shape of the scores."""
    return _stretch(torch.sigmoid(scores))


def perturb(noise: Tensor, generator: torch.Generator) -> None:
    """Fill a tensor with the log-odds of uniform random numbers."""
    noise.uniform_(_MARGIN, 1 - _MARGIN, generator=generator).logit_()


def _stretch(concrete: Tensor) -> Tensor:
    return (concrete * (HIGH - LOW) + LOW).clamp(0, 1)


class HardConcreteMask(ScoredMask):
    """A mask of gates, random in training until it is frozen."""

    noise: Tensor
    """(count,), fp32: the log-odds drawn last; the gates are the same wherever a step reads them."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__(scores)
        self.register_buffer("noise", torch.zeros_like(scores), persistent=False)

    def draw(self, generator: torch.Generator) -> None:
        """Draw new noise."""
        perturb(self.noise, generator)

    def forward(self) -> Tensor:
        """The mask (count,) in fp32: random in training, between 0 and 1; 0 or 1 once it is frozen."""
        if not self.learning:
            return self.kept.float()
        return sampled(self.scores, self.noise) if self.training else expected(self.scores)

    def factors(self) -> Tensor:
        """What the weights of kept units are multiplied by when the gates become 0 or 1, (count,).

        The gate without noise; 0.01 for a unit that is kept although its gate is shut, so that it does not become a
        zero, and learns on.
        """
        gates = self.steady()
        return torch.where(gates > 0, gates, _CRACK).where(self.kept, 1.0)

    def steady(self) -> Tensor:
        """The gates without noise, (count,)."""
        return expected(self.scores.detach())


class HardConcreteMasks(PenalisedMasks):
    """Hard concrete gates of a whole model; the penalty is the mean probability that a gate is open."""

    def draw(self, seed: int) -> None:
        """Draw new noise for every gate, a pure function of the seed."""
        generator = torch.Generator(self.frozen.device).manual_seed(seed)
        for source in self._gates().values():
            source.draw(generator)

    def select(self, budget: float) -> None:
        """Keep the highest scores within `budget` and multiply their gates into the weights.

        So the model computes the same with the mask 1 as it did with the gate, but for what changed its side.
        """
        super().select(budget)
        for name, source in self._gates().items():
            fold(self.groups[name], source.factors())

    def _gates(self) -> dict[str, HardConcreteMask]:
        sources = {name: self.source(name) for name in self.groups}
        return {name: source for name, source in sources.items() if isinstance(source, HardConcreteMask)}


def fold(units: Units, factors: Tensor) -> None:
    """Multiply in place the weights on which a mask of these units acts by `factors` (count,)."""
    with torch.no_grad():
        if isinstance(units, SlotUnits):
            stored(units.reader, "weight").mul_(units.widen(factors))
        elif isinstance(units, WeightUnits):
            for parameter, spread in units.owned.items():
                stored(units.linear, parameter).mul_(spread(factors))
