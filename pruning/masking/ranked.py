"""Masks that keep what ranks highest under a budget: hard top-k over learned scores or over magnitudes."""

from collections.abc import Mapping

import torch
from torch import Tensor

from pruning.masking.learned import LearnedMask, LearnedMasks
from pruning.masking.select import Scope, keep_counts, keep_top, lowest_kept
from pruning.masking.units import Units


class MagnitudeMask(LearnedMask):
    """A mask that ranks units by the root mean square of their weights, as they are now, also of dropped units.

    With `regrow` the gradient passes the mask as if everything were kept, so that dropped weights go on learning and
    may come back; without, they stand still until survivors shrink below them. A dropped head or neuron learns in the
    matrices that write its features; the one that reads them sees zeros.
    """

    def __init__(self, units: Units, regrow: bool) -> None:
        super().__init__(units.count)
        self._units = (units,)  # in a tuple: its linears belong to the model, not to the mask
        self.regrow = regrow

    def importance(self) -> Tensor:
        """The root mean square of each unit's weights."""
        return magnitude(self._units[0])

    def forward(self) -> Tensor:
        """The mask (count,) in fp32."""
        return self.kept.float()

    def cover(self, values: Tensor, mask: Tensor) -> Tensor:
        """Mask values; with `regrow` their gradient is the identity until the masks are frozen."""
        masked = super().cover(values, mask)
        return values + (masked - values).detach() if self.regrow and self.learning else masked


def magnitude(units: Units) -> Tensor:
    """The root mean square of each unit's weights, (count,)."""
    return (units.pool(torch.square) / units.weights).sqrt()


class RankedMasks(LearnedMasks):
    """Masks of a whole model that keep the most important units within a budget that falls.

    `scope` says whether units compete within their group or with all others; with `even` every group keeps the same
    number. `total` is the cost of the whole model, with what no group holds.
    """

    limit: Tensor
    """0-d: with global scope the importance from which a unit is kept."""

    def __init__(
        self,
        groups: Mapping[str, Units],
        sources: Mapping[str, LearnedMask],
        total: float,
        scope: Scope,
        *,
        even: bool,
    ) -> None:
        super().__init__(groups, sources, total)
        self.scope = scope
        self.even = even
        self.register_buffer("limit", torch.tensor(-torch.inf))

    def refresh(self, budget: float, *, search: bool) -> None:
        """Choose again, without waiting for the device.

        Local scope keeps exact counts. Global scope finds the common limit only when it is to `search`, because that
        ranks all units at once; between two searches a unit is kept when it passes the limit, or is the best of its
        group.
        """
        importance = {name: self.learned(name).importance() for name in self.groups}
        if self.even or self.scope == "local":
            sizes = {name: group.count for name, group in self.groups.items()}
            counts = keep_counts(sizes, self.unit_costs(), budget, even=self.even)
            kept = {name: keep_top(scores, counts[name]) for name, scores in importance.items()}
        else:
            if search:
                self.limit.copy_(lowest_kept(importance, self.unit_costs(), budget))
            kept = {
                name: (scores >= self.limit) | (scores == scores.max()) for name, scores in importance.items()
            }
        for name, mask in kept.items():
            self.source(name).kept.copy_(mask)

    def select(self, budget: float) -> None:
        """Keep the most important units that `budget` allows, at least one of each group."""
        self.keep(budget, self.scope, even=self.even)
