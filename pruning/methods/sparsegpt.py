"""SparseGPT: one-shot pruning by the optimal brain surgeon (Frantar, Alistarh, ICML 2023)."""

from collections.abc import Callable

from pydantic import Field

from pruning.layerwise.obs import Inverse, sparsegpt
from pruning.layerwise.statistics import Gram, Statistic
from pruning.methods._layerwise import LayerwiseMethod, SecondOrderSettings, Solver


class SparseGpt(LayerwiseMethod):
    """Drop weights column by column; those to the right take over what the dropped ones did."""

    name = "sparsegpt"
    title = "SparseGPT"
    summary = (
        "Drops weights layer by layer and corrects the others, by second-order information of a few rows."
    )
    granularities = frozenset({"unstructured", "n_m", "block"})

    class Settings(SecondOrderSettings):
        """Options of SparseGPT, with the published values as defaults."""

        block_columns: int = Field(
            default=128, ge=1, le=8192, description="Columns of which each part keeps the same fraction."
        )

    settings: Settings

    def workspace(self, outputs: int, inputs: int) -> int:
        """Gram matrix, factor and inverse in float64 and their copies; copies of the weight."""
        return 48 * inputs**2 + 24 * outputs * inputs

    def solver(self, statistic: Statistic, beat: Callable[[], None]) -> Solver:
        """One inverse for all linears that read the same."""
        assert isinstance(statistic, Gram)  # noqa: S101 - the kind that was asked for
        inverse = Inverse.of(statistic.matrix(), self.settings.dampening)
        return lambda weight, pattern: sparsegpt(weight, inverse, pattern, block=self.settings.block_columns)
