"""ALPS: one-shot pruning by operator splitting (Meng, Behdin, Wang, Mazumder, NeurIPS 2024)."""

from collections.abc import Callable

from pydantic import Field
from torch import Tensor

from pruning.layerwise.admm import Scaled, alps
from pruning.layerwise.obs import Compressed
from pruning.layerwise.patterns import Pattern
from pruning.layerwise.statistics import Gram, Statistic
from pruning.methods._layerwise import LayerwiseMethod, SecondOrderSettings, Solver


class Alps(LayerwiseMethod):
    """Choose mask and weights together so that each linear says what it said: the least error, the most time."""

    name = "alps"
    title = "ALPS"
    summary = "Finds mask and weights together by ADMM, then fits the weights: below SparseGPT's error, in more time."
    granularities = frozenset({"unstructured", "n_m", "block"})

    class Settings(SecondOrderSettings):
        """Options of ALPS, with the published values as defaults."""

        iterations: int = Field(
            default=300, ge=3, le=10_000, description="Steps of ADMM for a matrix at most."
        )

    settings: Settings

    def workspace(self, outputs: int, inputs: int) -> int:
        """The eigenvectors in float64 and what finds them; weights, targets, multipliers and their order."""
        return 64 * inputs**2 + 48 * outputs * inputs

    def solver(self, statistic: Statistic, beat: Callable[[], None]) -> Solver:
        """One decomposition for all linears that read the same."""
        assert isinstance(statistic, Gram)  # noqa: S101 - the kind that was asked for
        scaled = Scaled.of(statistic.matrix(), self.settings.dampening)

        def solve(weight: Tensor, pattern: Pattern) -> Compressed:
            return alps(weight, scaled, pattern, iterations=self.settings.iterations, beat=beat)

        return solve
