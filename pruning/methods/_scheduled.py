"""What methods share that keep the best units under a budget which a schedule lowers."""

from pruning.masking.ranked import RankedMasks
from pruning.masking.schedule import between, cubic_ramp
from pruning.methods._learned import LearnedTraining, ScheduledSettings

_SEARCH_EVERY = 25
"""Steps between two searches for the limit that all units share (movement pruning, released code)."""

_SEARCHES = 200
"""A run of few steps searches more often, so that it does so this many times."""


class ScheduledTraining(LearnedTraining):
    """The budget falls on the cubic from all units to the asked ratio; masks follow it at every step."""

    masks: RankedMasks
    settings: ScheduledSettings

    def advance(self, step: int, total: int) -> None:
        """Choose the units of this step; at `freeze_at` of the steps those of the exact ratio, for good."""
        if not self.settled(step, total):
            every = min(_SEARCH_EVERY, max(1, total // _SEARCHES))
            self.masks.refresh(self.allowed(step, total), search=step % every == 0)

    def allowed(self, step: int, total: int) -> float:
        """What the groups may cost together at `step`."""
        everything = sum(group.count * group.cost for group in self.masks.groups.values())
        done = cubic_ramp(step / total, self.settings.prune_from, self.settings.prune_until)
        return between(everything, self.budget, done)
