"""Two measures of predictive knowledge: the released code's, and the true Fisher information."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pruning.knowledge.scores import BatchGradients, RowGradients
from pruning.knowledge.signals import Loss, Signal, curvature, mismatch
from pruning.knowledge.sublayers import Sublayer
from pruning.training.tasks import Task

Gradients = BatchGradients | RowGradients

GRADIENT_BATCH = 32
"""Rows whose mean loss has one gradient in the released codes. Part of the scale of what is squared; rows are computed
in groups of like length whatever this is."""


class Predictive(Protocol):
    """What is sent down, and what becomes of the gradients."""

    def signal(self, answers: Sequence[Tensor] | None) -> Signal | None:
        """What to send down; `answers` are the dense model's logits of every batch, None while it is the pruned."""

    def gradients(self, sublayer: Sublayer) -> Gradients:
        """An empty accumulator for the columns of a sub-layer."""


@dataclass(frozen=True)
class Mismatch:
    """Squared gradients of the mean loss of 32 rows against the dense model's answers: the empirical Fisher.

    All zero while nothing was pruned below.
    """

    loss: Loss
    rows: int

    def signal(self, answers: Sequence[Tensor] | None) -> Signal | None:
        """The gradient of the loss, nothing while the pruned model still is the dense one."""
        return None if answers is None else mismatch(self.loss, answers)

    def gradients(self, sublayer: Sublayer) -> BatchGradients:
        """Sums over batches in drawn order."""
        return BatchGradients(drawn_batches(self.rows), sublayer.output.weight.shape[1])


@dataclass(frozen=True)
class Curvature:
    """The true Fisher information of the pruned model's answers: how far they move when a column goes.

    It does not vanish where the pruned model agrees with the dense one, and it is a mean over rows, whatever a batch
    is: 1 / 32^2 of that mean is what batches of 32 independent rows have in expectation, so that published values of
    lambda keep their meaning.
    """

    task: Task
    temperature: float
    seed: int

    def signal(self, answers: Sequence[Tensor] | None) -> Signal:
        """Random roots of the information."""
        return curvature(self.task, self.temperature, self.seed)

    def gradients(self, sublayer: Sublayer) -> RowGradients:
        """Sums over rows."""
        return RowGradients(sublayer.output.weight.shape[1], GRADIENT_BATCH**-2)


def drawn_batches(rows: int, size: int = GRADIENT_BATCH) -> Tensor:
    """The batch of each row in drawn order, int64 (rows,)."""
    return torch.arange(rows) // size
