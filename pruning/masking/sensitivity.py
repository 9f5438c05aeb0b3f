"""Scores that start from sensitivities: how much the loss depends on each unit, measured while everything is kept.

The sensitivity is the root of the summed squares of the mask's gradient: up to a factor the root of the mask's
empirical Fisher information (Kwon et al. 2022).
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from pruning.masking.learned import LearnedMasks, ScoredMask
from pruning.masking.select import SAMPLE, Scope


class SensedMask(ScoredMask):
    """A mask with learned scores, which start at 0."""

    sensitivity: Tensor
    """(count,), fp32: the squared gradients of the mask, summed over the steps that `sense` saw."""

    def __init__(self, count: int) -> None:
        super().__init__(torch.zeros(count))
        self.register_buffer("sensitivity", torch.zeros(count))


def sense(masks: LearnedMasks) -> None:
    """Add the squared gradients of the masks, which are those of the scores, to the sensitivities."""
    for source in _sources(masks):
        if source.scores.grad is not None:
            source.sensitivity.addcmul_(source.scores.grad, source.scores.grad)


def raise_by_sensitivity(masks: LearnedMasks, strength: float, scope: Scope) -> None:
    """Raise every score by `strength` times its unit's sensitivity over the mean of all units that it competes with."""
    roots = {source: source.sensitivity.sqrt() for source in _sources(masks)}
    everywhere = torch.stack([root.sum() for root in roots.values()]).sum() / sum(map(len, roots.values()))
    with torch.no_grad():
        for source, root in roots.items():
            mean = (root.mean() if scope == "local" else everywhere).clamp(
                min=torch.finfo(torch.float32).tiny
            )
            source.scores.add_(root / mean, alpha=strength)


def spread_by_sensitivity(masks: LearnedMasks, spread: float, bound: float) -> None:
    """Raise every score by `spread` times the logit of the part of all units that are less sensitive than its own.

    Logits end at `bound`. Parts are counted in a sample, so that nothing as large as the model is sorted.
    """
    stride = math.ceil(sum(group.count for group in masks.groups.values()) / SAMPLE) | 1
    sample = torch.cat([source.sensitivity[::stride] for source in _sources(masks)]).sort().values
    with torch.no_grad():
        for source in _sources(masks):
            below = torch.searchsorted(sample, source.sensitivity) + torch.searchsorted(
                sample, source.sensitivity, right=True
            )
            part = (below + 1) / (2 * len(sample) + 2)
            source.scores.add_(torch.logit(part).clamp(-bound, bound), alpha=spread)


def _sources(masks: LearnedMasks) -> Iterator[SensedMask]:
    learned = (masks.learned(name) for name in masks.groups)
    return (source for source in learned if isinstance(source, SensedMask))
