"""RIA: relative importance and activations (Zhang et al., ICLR 2024), without the permutation of channels."""

from typing import Literal

from pydantic import Field
from torch import Tensor

from pruning.layerwise.scores import ria
from pruning.methods._scored import COMPARISON, ScoredMethod, ScoredSettings


class Ria(ScoredMethod):
    """Keep the weights that matter most to their input and to their output, for the inputs they read."""

    name = "ria"
    title = "RIA"
    summary = (
        "As Wanda, with weights measured against the others of their row and column: no channel is emptied."
    )
    granularities = frozenset({"unstructured", "n_m"})

    class Settings(ScoredSettings):
        """Options of RIA, with the published values as defaults."""

        comparison_group: Literal["row", "matrix"] = Field(default="matrix", description=COMPARISON)
        activation_power: float = Field(
            default=0.5,
            ge=0,
            le=2,
            description="Power of the size of the inputs in the score (a); 0 leaves them out.",
        )

    settings: Settings

    def score(self, weight: Tensor, squares: Tensor) -> Tensor:
        """Equation 5."""
        return ria(weight, squares, self.settings.activation_power)
