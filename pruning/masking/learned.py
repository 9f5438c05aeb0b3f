"""Masks that change while a model trains: what all of them share, and the end at an exact budget."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from pruning.masking.masks import MaskSet, MaskSource
from pruning.masking.rungs import keep_units
from pruning.masking.select import Scope
from pruning.masking.units import Units


class StraightThrough(torch.autograd.Function):
    """Forward the mask; backward, its gradient goes to the scores as it is, of kept and dropped units.

    So a score's gradient is the sum of weight times gradient of the masked weight over the unit: the score of
    movement pruning (Sanh, Wolf and Rush 2020, section 4). `fraction` (0-d), where there is one, receives the sum
    of the gradient over the kept units: the derivative of the loss with respect to a common factor on all that
    survives (LEAP, released code).
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, fraction: Tensor | None, kept: Tensor) -> Tensor:
        """The mask `kept` (count,) in the dtype of the scores (count,)."""
        if fraction is not None:
            ctx.save_for_backward(kept)
        return kept.to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """The gradients of scores and fraction for that of the mask, (count,)."""
        (gradient,) = gradients
        common = (gradient * ctx.saved_tensors[0]).sum() if ctx.saved_tensors else None
        return gradient, common, None


class LearnedMask(MaskSource, ABC):
    """A mask that changes; its MaskSet refreshes `kept`, and says when learning is over."""

    def __init__(self, count: int) -> None:
        super().__init__(torch.ones(count, dtype=torch.bool))
        self.learning = True

    @abstractmethod
    def importance(self) -> Tensor:
        """What ranks the units, (count,), without gradients: the larger, the more worth keeping."""


class ScoredMask(LearnedMask):
    """A mask with learned scores (count,), fp32."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__(len(scores))
        self.scores = nn.Parameter(scores)

    def importance(self) -> Tensor:
        """The scores."""
        return self.scores.detach()

    def forward(self) -> Tensor:
        """The mask (count,) in fp32, with gradients until it is frozen."""
        if not self.learning:
            return self.kept.float()
        return cast(Tensor, cast(Any, StraightThrough).apply(self.scores, None, self.kept))


class LearnedMasks(MaskSet, ABC):
    """Learned masks of a whole model. `total` is the cost of the whole model, with what no group holds."""

    frozen: Tensor
    """0-d, bool: whether the masks are final."""

    def __init__(self, groups: Mapping[str, Units], sources: Mapping[str, LearnedMask], total: float) -> None:
        super().__init__(groups, sources)
        self.rest = 1 - sum(group.count * group.cost for group in groups.values()) / total
        self.register_buffer("frozen", torch.tensor(False))

    def learned(self, name: str) -> LearnedMask:
        """The source of the group called `name`."""
        return cast(LearnedMask, self.source(name))

    def scores(self) -> list[nn.Parameter]:
        """Every group's learned scores."""
        sources = (self.learned(name) for name in self.groups)
        return [source.scores for source in sources if isinstance(source, ScoredMask)]

    def remaining(self) -> Tensor:
        """The part of the model's cost that is kept, 0-d."""
        return torch.tensor(self.rest + (1 - self.rest) * self.density())

    def project(self, budget: float) -> None:
        """Let the groups cost at most `budget`, less by less than one rung, and freeze."""
        self.select(budget)
        self.frozen.fill_(True)
        self.freeze()

    @abstractmethod
    def select(self, budget: float) -> None:
        """Let the groups keep the best units that `budget` allows, at least one each."""

    def freeze(self) -> None:
        """Stop learning which units stay; the masks stay as they are."""
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        for name in self.groups:
            self.learned(name).learning = False

    def keep(self, budget: float, scope: Scope, *, even: bool) -> None:
        """Keep the most important units within `budget`, as `keep_units` chooses."""
        importance = {name: self.learned(name).importance() for name in self.groups}
        masks = keep_units(self.groups, importance, budget, scope, even=even)
        for name, mask in masks.items():
            self.source(name).kept.copy_(mask)

    def unit_costs(self) -> dict[str, float]:
        """What one unit of each group costs."""
        return {name: group.cost for name, group in self.groups.items()}
