"""Movement pruning: keep what moves away from zero (Sanh, Wolf and Rush 2020, arXiv 2005.07683)."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from pruning.masking.ranked import RankedMasks
from pruning.masking.select import Scope
from pruning.masking.sensitivity import SensedMask
from pruning.masking.units import Units
from pruning.methods import Context
from pruning.methods._learned import LearnedMethod, ScheduledSettings
from pruning.methods._scheduled import ScheduledTraining
from pruning.methods._sensing import PriorSettings, Sensing, ranking


class MovementTraining(ScheduledTraining):
    """Scores start from sensitivities and learn by the straight-through estimator; dropped units may come back."""

    settings: "Movement.Settings"

    def __init__(self, masks: RankedMasks, budget: float, settings: "Movement.Settings", steps: int) -> None:
        super().__init__(masks, budget, settings)
        scope: Scope = "local" if masks.even else masks.scope
        rank = ranking(masks, settings, steps, settings.score_learning_rate, settings.prior, scope)
        self.sensing = Sensing(masks, settings.prune_from, rank)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The scores; no weight decay. The gradient of a single weight's score is small against the usual eps."""
        return [{"params": self.masks.scores(), "lr": self.settings.score_learning_rate, "eps": 1e-10}]

    def advance(self, step: int, total: int) -> None:
        """Measure sensitivities while everything is kept; then let the budget fall."""
        self.sensing.advance(step, total)
        super().advance(step, total)

    def observe(self) -> None:
        """Measure sensitivities while nothing is dropped yet."""
        self.sensing.observe()


class Movement(LearnedMethod):
    """Hard movement pruning: the score of a unit is what its weights times their gradients add up to.

    It rises when the weights are pushed away from zero and falls when they are pushed towards it, so that it says how
    much a weight has grown, where magnitude says how large it is. Published scores start at 0, which takes runs of many
    thousand steps; here they start from sensitivities.
    """

    name = "movement"
    title = "Movement"
    summary = "Keeps the weights that training moves away from zero, on a cubic schedule (Sanh et al. 2020)."
    schedule_steps = 25

    class Settings(ScheduledSettings, PriorSettings):
        """The training recipe, the schedule, and how units compete."""

        score_learning_rate: float = Field(
            default=1e-2, gt=0, le=1, description="Learning rate of the scores (Adam, no weight decay)."
        )
        scope: Scope = Field(
            default="global",
            description="global: all units compete; the score that decides is looked up every 25 steps at least. "
            "local: every matrix (or the heads, and the neurons, of every layer) keeps the same fraction.",
        )

    settings: Settings

    def learner(self, context: Context, groups: Mapping[str, Units], steps: int) -> MovementTraining:
        """A score for every unit."""
        sources = {name: SensedMask(group.count) for name, group in groups.items()}
        even = context.spec.allocation == "native"
        masks = RankedMasks(groups, sources, context.total_cost, self.settings.scope, even=even)
        return MovementTraining(masks, context.budget(groups), self.settings, steps)
