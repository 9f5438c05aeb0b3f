"""Soft movement pruning: a fixed threshold on scores under a penalty (Sanh, Wolf and Rush 2020, arXiv 2005.07683)."""

import math
from collections.abc import Mapping

import torch
from pydantic import Field

from pruning.masking.learned import ScoredMask
from pruning.masking.penalised import PenalisedMasks, part_shares
from pruning.masking.schedule import cubic_ramp, logit
from pruning.masking.units import Units
from pruning.methods import Context
from pruning.methods._learned import LearnedMethod
from pruning.methods._penalised import PenalisedSettings, PenalisedTraining
from pruning.planning.catalogue import GRANULARITIES


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
    set its coefficient by hand and see what ratio comes out; here it is steered to the asked ratio. With
    granularity block, hybrid or structured this is block pruning (Lagunas et al. 2021, arXiv 2109.04838), whose
    penalty weighs attention and FFN alike, whatever number of scores each has.
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
        ffn_weight: float | None = Field(
            default=None,
            ge=0.01,
            le=100,
            description="How hard the penalty presses on the FFN for 1 on the attention, each taken as the mean over "
            "its matrices (or its heads or neurons, of all layers): below 1 protects the FFN, above 1 prunes it "
            "harder. 1 by default.",
            json_schema_extra={GRANULARITIES: ["structured", "hybrid", "block", "row", "unstructured"]},
        )

    settings: Settings

    def learner(self, context: Context, groups: Mapping[str, Units], steps: int) -> SoftMovementTraining:
        """A score of 0 for every unit."""
        sources = {name: ScoredMask(torch.zeros(group.count)) for name, group in groups.items()}
        even = context.spec.allocation == "native"
        weight = 1.0 if self.settings.ffn_weight is None else self.settings.ffn_weight
        shares = part_shares(context.model, groups, weight)
        masks = PenalisedMasks(groups, sources, context.total_cost, 0.0, even=even, shares=shares)
        budget, cut = context.budget(groups), logit(self.settings.threshold)
        return SoftMovementTraining(masks, budget, self.settings, steps, 0.0, cut)
