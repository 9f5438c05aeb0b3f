"""Gradual magnitude pruning: drop the smallest, a few at a time (Zhu and Gupta 2017, arXiv 1710.01878)."""

from collections.abc import Mapping

from pydantic import Field

from pruning.masking.ranked import MagnitudeMask, RankedMasks
from pruning.masking.select import Scope
from pruning.masking.units import Units
from pruning.methods import Context
from pruning.methods._learned import LearnedMethod, ScheduledSettings
from pruning.methods._scheduled import ScheduledTraining


class GradualMagnitude(LearnedMethod):
    """Rank units by the root mean square of their weights, and let the ratio grow on the cubic while training."""

    name = "gradual_magnitude"
    title = "Gradual magnitude"
    summary = (
        "Drops the smallest weights, blocks, rows, heads or neurons a few at a time while the model trains."
    )
    schedule_steps = 25

    class Settings(ScheduledSettings):
        """The training recipe, the schedule, how units compete, and whether they can come back."""

        scope: Scope = Field(
            default="global",
            description="global: all units compete; the magnitude that decides is looked up every 25 steps at least. "
            "local: every matrix (or the heads, and the neurons, of every layer) keeps the same fraction.",
        )
        regrow: bool = Field(
            default=False,
            description="Whether dropped weights go on learning, as if they were kept, and can come back. Without, "
            "they stand still, and come back only when survivors shrink below them. Dropped heads and neurons go on "
            "learning in the matrices that write their features.",
        )

    settings: Settings

    def learner(self, context: Context, groups: Mapping[str, Units], steps: int) -> ScheduledTraining:
        """Masks that rank units by their magnitude at every step; there is nothing to learn beside the weights."""
        sources = {name: MagnitudeMask(group, self.settings.regrow) for name, group in groups.items()}
        even = context.spec.allocation == "native"
        masks = RankedMasks(groups, sources, context.total_cost, self.settings.scope, even=even)
        return ScheduledTraining(masks, context.budget(groups), self.settings)
