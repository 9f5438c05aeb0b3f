"""What methods share that score single weights by what they read, and leave those that stay as they are."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from pruning.layerwise.obs import Compressed
from pruning.layerwise.patterns import Groups, Pattern
from pruning.layerwise.statistics import Gram, InputSquares, Statistic
from pruning.layerwise.swaps import swap, workspace
from pruning.methods._layerwise import LayerwiseMethod, LayerwiseSettings, Solver

COMPARISON = (
    "Which weights compete where single ones are dropped: those of an output row, so that every row keeps equally "
    "many, or those of the whole matrix."
)


class ScoredSettings(LayerwiseSettings):
    """What competes, and how far the mask is refined."""

    comparison_group: Literal["row", "matrix"] = Field(default="row", description=COMPARISON)
    swaps: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="How often at most each row exchanges a kept for a dropped weight, where that lowers the error of "
        "what the linear says (SparseSwaps). Each costs a look at all pairs of a row, with N:M of a group.",
    )


class ScoredMethod(LayerwiseMethod):
    """Keep the weights with the highest scores."""

    settings: ScoredSettings

    @property
    def by_rows(self) -> bool:  # type: ignore[override]
        """As the settings say."""
        return self.settings.comparison_group == "row"

    @abstractmethod
    def score(self, weight: Tensor, squares: Tensor) -> Tensor:
        """Scores (outputs, inputs) of a weight whose inputs have the sums of squares (inputs,)."""

    def statistic(self, inputs: int, device: torch.device) -> Statistic:
        """Scores need sizes only, swaps the whole Gram matrix."""
        return Gram(inputs, device) if self.settings.swaps else InputSquares(inputs, device)

    def workspace(self, outputs: int, inputs: int) -> int:
        """Scores and their order, and what swaps need."""
        return 24 * outputs * inputs + (workspace(outputs, inputs) if self.settings.swaps else 0)

    def solver(self, statistic: Statistic, beat: Callable[[], None]) -> Solver:
        """Score, choose, and exchange."""

        def solve(weight: Tensor, pattern: Pattern) -> Compressed:
            kept = pattern.keep(self.score(weight, statistic.squares).square())
            if isinstance(statistic, Gram):
                group = pattern.size if isinstance(pattern, Groups) else None
                kept = swap(weight, kept, statistic.matrix(), self.settings.swaps, group=group, beat=beat)
            return Compressed(weight * kept, kept)

        return solve
