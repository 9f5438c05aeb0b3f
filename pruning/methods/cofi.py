"""CoFi: coarse and fine units together, under a Lagrangian (Xia, Zhong and Chen 2022, arXiv 2204.00408)."""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import Field
from torch import Tensor

from pruning.masking.nested import NestedMasks
from pruning.masking.schedule import linear_ramp
from pruning.masking.units import Units
from pruning.methods import Context
from pruning.methods._learned import (
    LearnedMethod,
    LearnedTraining,
    ScheduledSettings,
    learning_rates,
    memory,
)
from pruning.options import Distill

_TRAVEL = 30.0
"""How far a gate whose gradient is clear could move until the masks are frozen, of the 9 from bound to bound. It
gives the published learning rate of 0.01 for some thousand steps."""

_WANDER = 1.5
"""How far a gate whose gradient is noise moves by chance until then."""

_ASCENT = 0.1
"""The learning rate of the multipliers, which count in units of the task's gradient whatever the length of the run."""


class CofiTraining(LearnedTraining):
    """Weights and gates descend on loss and Lagrangian, the multipliers ascend, while the target rises.

    Gates are drawn anew at every step, as a function of the seed and the step alone.
    """

    masks: NestedMasks
    settings: "Cofi.Settings"

    def __init__(
        self,
        masks: NestedMasks,
        budget: float,
        settings: "Cofi.Settings",
        steps: int,
        ratio: float,
        seed: int,
    ) -> None:
        super().__init__(masks, budget, settings)
        self.steps = steps
        self.ratio = ratio
        self.seed = seed
        self.rate = settings.gate_learning_rate or _rate(settings, steps)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The gates descend, the multipliers ascend; no weight decay."""
        multipliers = list(self.masks.lagrangian.parameters())
        betas = (0.9, memory(self.steps))
        return [
            {"params": self.masks.scores(), "lr": self.rate, "betas": betas, "eps": 1e-12},
            {"params": multipliers, "lr": _ASCENT, "betas": betas, "maximize": True},
        ]

    def penalty(self) -> Tensor:
        """The Lagrangian; zero before pruning begins and once the masks are frozen."""
        if self.masks.frozen or not self.masks.lagrangian.target:
            return super().penalty()
        return self.masks.lagrangian(1 - self.masks.remaining())

    def observe(self) -> None:
        """Measure the task's gradients while gates learn."""
        if not self.masks.frozen:
            self.masks.lagrangian.observe(1 - self.masks.remaining(), self.masks.scores())

    def advance(self, step: int, total: int) -> None:
        """Raise the target and draw the gates; at `freeze_at` of the steps get the exact ratio and freeze."""
        if self.settled(step, total):
            return
        done = linear_ramp(step / total, self.settings.prune_from, self.settings.prune_until)
        self.masks.lagrangian.target.fill_(self.ratio * done)
        self.masks.refresh()
        self.masks.draw(self.seed * 1_000_003 + step)

    def metrics(self) -> dict[str, float]:
        """The part of the model's cost that is expected to remain, the target of what is removed, the multipliers."""
        lagrangian = self.masks.lagrangian
        found = {"target": lagrangian.target, "first": lagrangian.first, "second": lagrangian.second}
        return super().metrics() | {name: float(value.detach()) for name, value in found.items()}


class Cofi(LearnedMethod):
    """Gates on heads and neurons, and on whole sub-layers, multiplied.

    So a whole sub-layer can go at once, which makes a model faster than as many units from everywhere. By default it
    learns from the answers and the hidden states of its teacher, layers matched as they come nearest, without labels.

    CoFi's gates on the hidden dimension are left out: a norm over fewer dimensions has another mean and variance than
    one over zeros, so that the result would load neither padded nor with the classes of its family.
    """

    name = "cofi"
    title = "CoFi"
    summary = (
        "Learns gates on heads, neurons and whole sub-layers under a Lagrangian, with layer-wise "
        "distillation (Xia et al. 2022)."
    )
    granularities = frozenset({"neuron", "head", "structured"})
    empties_sublayers = True
    schedule_steps = 50
    distill = Distill(weight=1.0, hidden=4.0, layers="nearest", projection=True)

    class Settings(ScheduledSettings):
        """The training recipe, the schedule, and how fast gates learn."""

        gate_learning_rate: float | None = Field(
            default=None,
            gt=0,
            le=1,
            description="Learning rate of the gates (Adam, no weight decay). By default about 0.01 for 10,000 steps "
            "and more in shorter runs, because gates have a fixed way to go.",
        )

    settings: Settings

    def learner(self, context: Context, groups: Mapping[str, Units], steps: int) -> CofiTraining:
        """Gates for every unit and every sub-layer."""
        even = context.spec.allocation == "native"
        masks = NestedMasks(groups, context.total_cost, even=even)
        ratio, seed = context.ratio, context.spec.seed
        return CofiTraining(masks, context.budget(groups), self.settings, steps, ratio, seed)


def _rate(settings: Cofi.Settings, steps: int) -> float:
    rates = learning_rates(settings, steps)
    return min(1.0, _TRAVEL / max(sum(rates), 1e-9), _WANDER / max(math.hypot(*rates), 1e-9))
