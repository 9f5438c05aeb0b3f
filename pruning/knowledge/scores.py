"""Which units hold the model's knowledge: predictive and representational scores of every column of a sub-layer."""

import torch
from torch import Tensor
from torch.nn import functional as F


def divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Per row, T^2 * KL(softmax(teacher / T) || softmax(student / T)); logits (rows, classes) -> (rows,).

    The direction is that of the released code; the paper's equation 4 prints the arguments the other way round.
    """
    log_student = F.log_softmax(student / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher / temperature, dim=-1)
    return temperature**2 * F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(-1)


def squared_error(student: Tensor, teacher: Tensor) -> Tensor:
    """Per row, the mean squared difference of the outputs: (rows, outputs) -> (rows,), for regression."""
    return (student - teacher).square().mean(-1)


class PredictiveKnowledge:
    """Half the squared gradient of the loss with respect to a gate on each column, equation 8 with a diagonal Fisher.

    A gate of one per column c has the gradient sum over tokens of U[t, c] * dloss/dU[t, c], so no gate is built. The
    square is taken of the gradient of the MEAN over a batch of fixed size: that size is part of the score's scale,
    so rows are summed into the batches they were drawn in, however they are grouped for computing.
    """

    def __init__(self, batches: int, columns: int) -> None:
        self._gradients = torch.zeros(batches, columns, dtype=torch.float64)

    def add(self, inner: Tensor, gradient: Tensor, batch_of_row: Tensor) -> None:
        """Add rows: U and dloss/dU (rows, tokens, columns); `batch_of_row` (rows,) int64 on the CPU."""
        per_row = (inner.float() * gradient.float()).sum(1)  # three times as fast as einsum here
        self._gradients.index_add_(0, batch_of_row, per_row.double().cpu())

    def value(self, rows: int) -> Tensor:
        """(columns,) float64, averaged over that many rows."""
        return self._gradients.square().sum(0) / (2 * rows)


class RepresentationalKnowledge:
    """How much the sub-layer's output would change without each column: |U[:, c]|^2 |W[:, c]|^2, equation 9.

    Scaled as in the released code, by real tokens and output features; the meaning of lambda depends on it.
    """

    def __init__(self, columns: int) -> None:
        self._energy = torch.zeros(columns, dtype=torch.float64)
        self._tokens = 0

    def add(self, inner: Tensor, real: Tensor) -> None:
        """Add U (rows, tokens, columns) where `real` (rows, tokens) is true."""
        squares = inner.float().square().flatten(0, 1)
        self._energy += (real.flatten().float() @ squares).double().cpu()
        self._tokens += int(real.sum())

    def value(self, weight: Tensor) -> Tensor:
        """(columns,) float64 for the output weight (hidden, columns)."""
        return self._energy / self._tokens * weight.square().mean(0).double().cpu()


def per_unit(columns: Tensor, size: int) -> Tensor:
    """The mean over the columns of each unit: (units * size,) -> (units,)."""
    return columns.reshape(-1, size).mean(1)
