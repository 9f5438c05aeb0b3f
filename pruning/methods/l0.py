"""L0 regularisation: random gates and the price of being open (Louizos, Welling and Kingma 2018, arXiv 1712.01312)."""

from collections.abc import Mapping

import torch

from pruning.masking.hard_concrete import CUT, SHIFT, HardConcreteMask, HardConcreteMasks
from pruning.masking.units import Units
from pruning.methods import Context
from pruning.methods._learned import LearnedMethod
from pruning.methods._penalised import PenalisedSettings, PenalisedTraining

_START = 2.197
"""Gates start with a sigmoid of 0.9 (Sanh, Wolf and Rush 2020, released code)."""


class L0Training(PenalisedTraining):
    """Gates are drawn anew at every step, as a function of the seed and the step alone."""

    masks: HardConcreteMasks

    def __init__(
        self, masks: HardConcreteMasks, budget: float, settings: PenalisedSettings, steps: int, seed: int
    ) -> None:
        super().__init__(masks, budget, settings, steps, _START, CUT)
        self.seed = seed

    def advance(self, step: int, total: int) -> None:
        """Draw the gates of this step, after the penalty was steered; at `freeze_at` they become 0 or 1."""
        super().advance(step, total)
        self.masks.draw(self.seed * 1_000_003 + step)


class L0(LearnedMethod):
    """Hard concrete gates with a true gradient, and a penalty on the mean probability that a gate is open.

    Published runs set its coefficient by hand and see what ratio comes out; here it is steered to the asked ratio.
    Gates between 0 and 1 are multiplied into the weights when the masks become final.
    """

    name = "l0"
    title = "L0 regularisation"
    summary = "Learns random gates that a penalty closes, with true gradients (Louizos et al. 2018)."
    schedule_steps = 50

    class Settings(PenalisedSettings):
        """The training recipe and the schedule."""

    settings: Settings

    def learner(self, context: Context, groups: Mapping[str, Units], steps: int) -> L0Training:
        """A gate for every unit."""
        sources = {
            name: HardConcreteMask(torch.full((group.count,), _START)) for name, group in groups.items()
        }
        even = context.spec.allocation == "native"
        masks = HardConcreteMasks(groups, sources, context.total_cost, SHIFT, even=even)
        return L0Training(masks, context.budget(groups), self.settings, steps, context.spec.seed)
