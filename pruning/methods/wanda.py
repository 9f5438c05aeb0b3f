"""Wanda: drop weights that are small for the inputs they read (Sun, Liu, Bair, Kolter, ICLR 2024)."""

from torch import Tensor

from pruning.layerwise.scores import wanda
from pruning.methods._scored import ScoredMethod, ScoredSettings


class Wanda(ScoredMethod):
    """Keep the weights with the largest |W| |x|. Blocks and rows compete by the sum of their weights' squares of it."""

    name = "wanda"
    title = "Wanda"
    summary = "Drops weights that are small for what they read on a few rows; no gradients, no change of what stays."
    granularities = frozenset({"unstructured", "n_m", "block", "row"})

    class Settings(ScoredSettings):
        """Options of Wanda, with the published values as defaults."""

    settings: Settings

    def score(self, weight: Tensor, squares: Tensor) -> Tensor:
        """Equation 1."""
        return wanda(weight, squares)
