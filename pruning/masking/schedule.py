"""Schedules: pure functions of the training step, or of progress, which is the step over all steps."""

import math


def linear_decay(step: int, total: int, warmup: int) -> float:
    """The learning rate's factor at `step`, from 0: up over `warmup` steps, then down to 0 at `total`."""
    if step < warmup:
        return step / warmup
    return max(0.0, (total - step) / max(1, total - warmup))


def linear_ramp(progress: float, start: float, end: float) -> float:
    """0 until `start`, 1 from `end` on, and a straight line between them."""
    if progress >= end:
        return 1.0
    return max(0.0, (progress - start) / (end - start))


def cubic_ramp(progress: float, start: float, end: float) -> float:
    """0 until `start`, 1 from `end` on, and 1 - (1 - x)^3 between them, x the straight line.

    The schedule of gradual pruning, which prunes fast while much is redundant and slowly in the end (Zhu and Gupta
    2017, section 3; Sanh, Wolf and Rush 2020, released code).
    """
    return 1.0 - (1.0 - linear_ramp(progress, start, end)) ** 3


def between(first: float, last: float, part: float) -> float:
    """The value that is `part` of the way from `first` to `last`; both ends are exact."""
    return first * (1.0 - part) + last * part


def logit(fraction: float) -> float:
    """The inverse of the sigmoid; `fraction` in (0, 1)."""
    return math.log(fraction / (1 - fraction))
