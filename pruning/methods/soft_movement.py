"""Soft movement pruning: a fixed threshold on scores under a penalty (Sanh, Wolf and Rush 2020, arXiv 2005.07683)."""

import math
from collections.abc import Mapping

import torch
from pydantic import Field

from pruning.masking.learned import ScoredMask
from pruning.masking.penalised import PenalisedMasks
from pruning.masking.schedule import cubic_ramp, logit
from pruning.masking.units import Units
from pruning.methods import Context
from pruning.methods._learned import LearnedMethod
from pruning.methods._penalised import PenalisedSettings, PenalisedTraining


class SoftMovementTraining(PenalisedTraining):
    """A unit is kept while the sigmoid of its score is above a threshold that rises from 0 on the cubic."""

    settings: "SoftMovement.Settings"

    def cut_at(self, progress: float) -> float:
        """The logit of the threshold; no unit is dropped while that is 0."""
        done = cubic_ramp(progress, self.settings.prune_from, self.settings.prune_until)
        return logit(self.settings.threshold * done) if done else -math.inf


class SoftMovement(LearnedMethod):
    """Movement pruning where no group has a share to fill: all that scores above one threshold stays.

    Scores learn by the straight-through estimator, against a penalty on the mean of their sigmoids. Published runs
    set its coefficient by hand and see what ratio comes out; here it is steered to the asked ratio.
    """

    name = "soft_movement"
    title = "Soft movement"
    summary = "Movement scores under a penalty; all above one threshold stays (Sanh et al. 2020)."
    schedule_steps = 50

    class Settings(PenalisedSettings):
        """The training recipe, the schedule, and the threshold."""

        threshold: float = Field(
            default=0.1,
            gt=0.01,
            lt=0.5,
            description="Units are kept whose score has a sigmoid above this, in the end; scores start at 0.5.",
        )

    settings: Settings

    def learner(self, context: Context, groups: Mapping[str, Units], steps: int) -> SoftMovementTraining:
        """A score of 0 for every unit."""
        sources = {name: ScoredMask(torch.zeros(group.count)) for name, group in groups.items()}
        even = context.spec.allocation == "native"
        masks = PenalisedMasks(groups, sources, context.total_cost, 0.0, even=even)
        budget, cut = context.budget(groups), logit(self.settings.threshold)
        return SoftMovementTraining(masks, budget, self.settings, steps, 0.0, cut)
