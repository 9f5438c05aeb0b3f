"""OWL: layers with more outliers keep more (Yin et al. 2024)."""

from collections.abc import Sequence

import torch
from torch import Tensor


def outliers(scores: Sequence[Tensor], times: float) -> float:
    """The fraction of a layer's Wanda scores, of all its matrices, above `times` their mean (equation 1)."""
    count = sum(each.numel() for each in scores)
    mean = sum(float(each.sum(dtype=torch.float64)) for each in scores) / count
    return sum(int((each > times * mean).sum()) for each in scores) / count


def kept_fractions(outliers: Sequence[float], ratio: float, spread: float) -> list[float]:
    """What each layer keeps of its weights when 1 - `ratio` is kept in the mean.

    Fractions of outliers are stretched to [0, 2 `spread`] and shifted to that mean; the spread is smaller where a layer
    would keep less than nothing or more than all.
    """
    low, high = min(outliers), max(outliers)
    if low == high:
        return [1 - ratio] * len(outliers)
    places = [2 * (each - low) / (high - low) for each in outliers]
    middle = sum(places) / len(places)
    spread = min(spread, (1 - ratio) / middle, ratio / (2 - middle))
    return [1 - ratio + spread * (place - middle) for place in places]
