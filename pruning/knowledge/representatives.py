"""Which neurons stand for the others, by weights alone: Kernelized Convex Masking (Nova et al., ICML 2023)."""

import torch
from torch import Tensor

_ROUNDS = 200


def self_representation(points: Tensor, width: float, tolerance: float) -> Tensor:
    """How much of each point no other point can stand for, (points,), for points (points, features).

    With the Gaussian kernel K of that width, coefficients C start at 1 / points and are multiplied by
    sqrt(K / (K C)) until their sum of changes is below `tolerance` of their sum; the diagonal is the score. A point
    that convex combinations of others reach keeps little of itself.
    """
    kernel = torch.exp(-torch.cdist(points, points).square() / width**2)
    coefficients = torch.full_like(kernel, 1 / len(kernel))
    for _ in range(_ROUNDS):
        updated = coefficients * (kernel / (kernel @ coefficients)).sqrt()
        change = (updated - coefficients).sum().abs() / coefficients.sum()
        coefficients = updated
        if change < tolerance:
            break
    return coefficients.diagonal().clone()


def unit_range(values: Tensor) -> Tensor:
    """Shifted and stretched to 0..1, so that layers compete on one scale; 1 where all are equal."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else torch.ones_like(values)
