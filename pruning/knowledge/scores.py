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


class BatchGradients:
    """Gradients of the loss by a gate on each unit, one for each batch.

    A gate of one per column c has the gradient sum over tokens of U[t, c] * dloss/dU[t, c], so no gate is built; that
    of a unit of `size` columns is the sum of theirs. What is squared later is the gradient of the MEAN over a batch of
    fixed size: that size is part of the scale, so rows are summed into the batches they were drawn in, however they
    are grouped for computing.
    """

    def __init__(self, batch_of_row: Tensor, columns: int, size: int = 1) -> None:
        """`batch_of_row` (rows of the draw,) int64: the batch each row counts to."""
        self._batch_of_row = batch_of_row
        self._share = batch_of_row.bincount().double().reciprocal()[batch_of_row]
        self._size = size
        self.values = torch.zeros(int(batch_of_row.max()) + 1, columns // size)
        """(batches, units), in float32: with many small batches these are large."""

    def add(self, inner: Tensor, gradient: Tensor, rows: Tensor) -> None:
        """Add U and dloss/dU (rows, tokens, columns) of the losses of `rows`, their places in the draw."""
        found = by_gate(inner, gradient).reshape(len(rows), -1, self._size).sum(2)
        self.values.index_add_(0, self._batch_of_row[rows], (found * self._share[rows, None]).float())

    def value(self, rows: int) -> Tensor:
        """Half the squared gradients over that many rows, (units,) float64: equation 8 with a diagonal Fisher."""
        return self.values.double().square().sum(0) / (2 * rows)


class RowGradients:
    """Squares of the gradients of every single row by a gate on each column: no batch has a part in the scale."""

    def __init__(self, columns: int, scale: float = 1.0) -> None:
        self._squares = torch.zeros(columns, dtype=torch.float64)
        self._scale = scale

    def add(self, inner: Tensor, gradient: Tensor, rows: Tensor) -> None:
        """Add U and dloss/dU (rows, tokens, columns) of the losses of `rows`, their places in the draw."""
        self._squares += by_gate(inner, gradient).square().sum(0)

    def value(self, rows: int) -> Tensor:
        """`scale` times half the squared gradients, mean over that many rows, (columns,) float64."""
        return self._scale * self._squares / (2 * rows)


def by_gate(inner: Tensor, gradient: Tensor) -> Tensor:
    """Gradients of each row's loss by a gate on each column: U, dloss/dU (rows, tokens, columns) -> (rows, columns)."""
    return (inner.float() * gradient.float()).sum(1).double().cpu()  # three times as fast as einsum here


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

    @property
    def activation(self) -> Tensor:
        """The root of the mean square of U over real tokens, (columns,) float64."""
        return (self._energy / self._tokens).sqrt()

    def value(self, weight: Tensor) -> Tensor:
        """(columns,) float64 for the output weight (hidden, columns)."""
        return self._energy / self._tokens * weight.square().mean(0).double().cpu()


def per_unit(columns: Tensor, size: int) -> Tensor:
    """The mean over the columns of each unit: (units * size,) -> (units,)."""
    return columns.reshape(-1, size).mean(1)
