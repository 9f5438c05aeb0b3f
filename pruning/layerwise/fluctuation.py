"""How much what a unit says fluctuates: the scores of FLAP (An et al., AAAI 2024)."""

from typing import Literal

from torch import Tensor

from pruning.layerwise.statistics import Moments

Metric = Literal["wifv", "ifv", "wifn"]
"""Weighted input feature variance, the variance alone, or the weighted norm."""


def fluctuation(weight: Tensor, moments: Moments, metric: Metric) -> Tensor:
    """The score (inputs,) float64 of every input of a weight (outputs, inputs)."""
    if metric == "ifv":
        return moments.variance
    if metric == "wifv":
        return moments.variance * weight.double().square().sum(0)
    return moments.squares.double().sqrt() * weight.double().abs().mean(0)


def unit_scores(scores: Tensor, size: int) -> Tensor:
    """Scores (inputs,) standardised among each other, and their mean over the `size` inputs of each unit: (units,).

    So layers and kinds of sub-layers compare. Equal scores are all 0.
    """
    centred = scores - scores.mean()
    spread = centred.square().mean().sqrt()
    return (centred / spread if spread > 0 else centred).reshape(-1, size).mean(1)
