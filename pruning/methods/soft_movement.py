"""Soft movement pruning: a fixed threshold on scores under a penalty (Sanh, Wolf and Rush 2020, arXiv 2005.07683)."""

import math
from collections.abc import Mapping
from functools import partial

from pydantic import Field

from pruning.masking.penalised import BOUND, PenalisedMasks, part_shares
from pruning.masking.schedule import cubic_ramp, logit
from pruning.masking.sensitivity import SensedMask, spread_by_sensitivity
from pruning.masking.units import Units
from pruning.methods import Context
from pruning.methods._learned import LearnedMethod
from pruning.methods._penalised import PenalisedSettings, PenalisedTraining
from pruning.methods._sensing import Sensing
from pruning.planning.catalogue import GRANULARITIES


class SoftMovementTraining(PenalisedTraining):
    """A unit is kept while the sigmoid of its score is above a threshold that rises from 0 on the cubic."""

    settings: "SoftMovement.Settings"

    wander = 0.5  # scores that start apart need not find their ranks by moving

    def __init__(
        self, masks: PenalisedMasks, budget: float, settings: "SoftMovement.Settings", steps: int
    ) -> None:
        everything = sum(group.count * group.cost for group in masks.groups.values())
        marginal = settings.prior * min(max(logit(1 - budget / everything), -BOUND), BOUND)
        super().__init__(masks, budget, settings, steps, marginal, logit(settings.threshold))
        rank = partial(spread_by_sensitivity, masks, settings.prior, BOUND)
        self.sensing = Sensing(masks, settings.prune_from, rank)

    def advance(self, step: int, total: int) -> None:
        """Measure sensitivities while everything is kept; then steer the penalty and refresh the masks."""
        self.sensing.advance(step, total)
        super().advance(step, total)

    def observe(self) -> None:
        """Measure the task's gradients while scores learn, sensitivities while nothing is dropped yet."""
        super().observe()
        self.sensing.observe()

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

        prior: float = Field(
            default=1.0,
            ge=0,
            le=2,
            description="How much the sensitivities decide that are measured before pruning begins: scores rise by "
            "this times the logit of the part of all units that are less sensitive. With 0 movement alone decides, as "
            "published, which takes long runs.",
        )
        threshold: float = Field(
            default=0.1,
            gt=0.01,
            lt=0.5,
            description="Units are kept whose score has a sigmoid above this, in the end; they start at 0.5.",
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
        """A score for every unit."""
        sources = {name: SensedMask(group.count) for name, group in groups.items()}
        even = context.spec.allocation == "native"
        weight = 1.0 if self.settings.ffn_weight is None else self.settings.ffn_weight
        shares = part_shares(context.model, groups, weight)
        masks = PenalisedMasks(groups, sources, context.total_cost, 0.0, even=even, shares=shares)
        return SoftMovementTraining(masks, context.budget(groups), self.settings, steps)
