"""What methods share whose scores are pushed down by a penalty that is steered to the asked ratio."""

import math
from typing import Any

from pydantic import Field
from torch import Tensor

from pruning.masking.penalised import PenalisedMasks
from pruning.masking.schedule import between, linear_ramp
from pruning.methods._learned import LearnedTraining, ScheduledSettings, learning_rates, memory

_FLOOR = 0.005


class PenalisedSettings(ScheduledSettings):
    """The training recipe, the schedule, and how fast scores learn."""

    score_learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Learning rate of the scores (Adam, no weight decay). By default about 0.01 for 40,000 steps and "
        "more in shorter runs, with the root of the steps, because scores have a fixed way to go.",
    )


class PenalisedTraining(LearnedTraining):
    """Weights and scores learn against a penalty that holds the marginal unit on a straight path.

    The path leads from `start`, where scores begin, to `cut`, above which units are kept, while pruning lasts; so the
    ratio is reached when pruning ends, whatever the scale of the task's gradients.
    """

    masks: PenalisedMasks
    settings: PenalisedSettings

    wander = 1.5
    """How far a score whose gradient is noise moves by chance until the masks are frozen, in the units of a sigmoid's
    argument. It gives the published learning rate of 0.01 for the published runs, of some ten thousand steps."""

    def __init__(
        self,
        masks: PenalisedMasks,
        budget: float,
        settings: PenalisedSettings,
        steps: int,
        start: float,
        cut: float,
    ) -> None:
        super().__init__(masks, budget, settings)
        self.steps = steps
        self.start = start
        self.cut = cut
        self.rate = settings.score_learning_rate or min(
            1.0, self.wander / math.hypot(*learning_rates(settings, steps))
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The scores; no weight decay."""
        betas = (0.9, memory(self.steps))
        return [{"params": self.masks.scores(), "lr": self.rate, "betas": betas, "eps": 1e-12}]

    def penalty(self) -> Tensor:
        """The penalty on all scores; zero once the masks are frozen."""
        return super().penalty() if self.masks.frozen else self.masks.penalty()

    def observe(self) -> None:
        """Measure the task's gradients while scores learn."""
        if not self.masks.frozen:
            self.masks.observe()

    def advance(self, step: int, total: int) -> None:
        """Steer the penalty and refresh the masks; at `freeze_at` of the steps get the exact ratio and freeze."""
        if self.settled(step, total):
            return
        progress, settings = step / total, self.settings
        self.masks.bound()
        if progress > settings.prune_from:
            done = linear_ramp(progress, settings.prune_from, settings.prune_until)
            self.masks.steer(between(self.start, self.cut, done), self.budget, self.rate)
        self.masks.refresh(self.cut_at(progress), self.floor())

    def cut_at(self, progress: float) -> float:
        """The score above which units are kept now."""
        return self.cut

    def floor(self) -> float:
        """The fraction that every group keeps until the masks are final: half a percent, less for a small target."""
        everything = sum(group.count * group.cost for group in self.masks.groups.values())
        return min(_FLOOR, self.budget / everything / 2)

    def metrics(self) -> dict[str, float]:
        """The part of the model's cost that remains, and the coefficient of the penalty."""
        return super().metrics() | {"penalty_strength": float(self.masks.strength)}
