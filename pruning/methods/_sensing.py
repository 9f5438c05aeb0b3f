"""What methods share whose scores start from measured sensitivities."""

import math
from collections.abc import Callable
from functools import partial

from pydantic import Field

from pruning.masking.learned import LearnedMasks
from pruning.masking.select import Scope
from pruning.masking.sensitivity import raise_by_sensitivity, sense
from pruning.methods._learned import LearnedSettings, learning_rates
from pruning.options import Asked


class PriorSettings(Asked):
    """How far scores are apart at the start of pruning, where nothing bounds them."""

    prior: float = Field(
        default=20.0,
        ge=0,
        le=1000,
        description="How much the sensitivities decide that are measured before pruning begins: scores then rise by "
        "each unit's sensitivity over the mean, times this many times the distance that a score wanders by chance "
        "in training. With 0 movement alone decides, as published, which takes long runs.",
    )


class Sensing:
    """The beginning of a run: everything is kept, sensitivities are measured, then `rank` sets the scores by them.

    It lasts for the part `until` of the steps.
    """

    def __init__(self, masks: LearnedMasks, until: float, rank: Callable[[], None]) -> None:
        self.masks = masks
        self.until = until
        self.rank = rank
        self.active = False

    def steps(self, total: int) -> int:
        """For how many steps sensitivities are measured; at least one."""
        return max(1, math.floor(self.until * total))

    def advance(self, step: int, total: int) -> None:
        """Measure until pruning begins; at its first step rank the units."""
        self.active = step < self.steps(total)
        if step == self.steps(total):
            self.rank()

    def observe(self) -> None:
        """Measure this step's gradients, while nothing is dropped."""
        if self.active:
            sense(self.masks)


def ranking(
    masks: LearnedMasks, settings: LearnedSettings, steps: int, rate: float, prior: float, scope: Scope
) -> Callable[[], None]:
    """Raise scores that learn at `rate` by sensitivities, `prior` times as far as chance moves them in `steps`.

    Adam moves a score whose gradient is noise by the root of the sum of its squared steps. That grows with the root of
    the steps, and what a clear gradient does with the steps: the longer the run, the more movement decides.
    """
    distance = rate * math.hypot(*learning_rates(settings, steps))
    return partial(raise_by_sensitivity, masks, prior * distance, scope)
