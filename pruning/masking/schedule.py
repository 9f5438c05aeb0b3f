"""Schedules: pure functions of the training step."""

import math


def linear_decay(step: int, total: int, warmup: int) -> float:
    """The learning rate's factor at `step`, from 0: up over `warmup` steps, then down to 0 at `total`."""
    if step < warmup:
        return step / warmup
    return max(0.0, (total - step) / max(1, total - warmup))


def logit(fraction: float) -> float:
    """The inverse of the sigmoid; `fraction` in (0, 1)."""
    return math.log(fraction / (1 - fraction))
