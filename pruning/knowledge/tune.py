"""Refit an output projection so that what is kept says again what the dense sub-layer said."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.errors import InvalidModel

_JITTER = 1e-6
_SCARCE = 1e-3
"""Ridge when there are fewer than `_TOKENS_PER_COLUMN` tokens for each unknown."""
_TOKENS_PER_COLUMN = 3


@dataclass(frozen=True)
class Fit:
    """A least-squares solution: weight (outputs, columns), the ridge used (as a part of the mean diagonal of the Gram
    matrix), and the relative squared error left, before (with the old weight) and after."""

    weight: Tensor
    ridge: float
    error_before: float
    error_after: float


class NormalEquations:
    """Streams min over V of |A V - B|^2 for A (tokens, columns), B (tokens, outputs): keeps A^T A, A^T B, |B|^2.

    Tokens may have weights: then the squared error of each counts so many times.

    Products are taken in the precision of the inputs, one chunk at a time, and summed in float64.
    """

    def __init__(self, columns: int, outputs: int, device: torch.device) -> None:
        self._gram = torch.zeros(columns, columns, dtype=torch.float64, device=device)
        self._right = torch.zeros(columns, outputs, dtype=torch.float64, device=device)
        self._sum = torch.zeros(outputs, dtype=torch.float64, device=device)
        self._energy = 0.0
        self._tokens = 0

    def add(self, inner: Tensor, wanted: Tensor, weights: Tensor | None = None) -> None:
        """Add one chunk of A and B, with the weights (tokens,) of its tokens."""
        self._sum += wanted.sum(0, dtype=torch.float64)
        if weights is not None:
            root = weights.sqrt()[:, None]
            inner, wanted = inner * root, wanted * root
        self._gram += inner.T @ inner
        self._right += inner.T @ wanted
        self._energy += float(wanted.double().square().sum())
        self._tokens += len(wanted)

    @property
    def mean(self) -> Tensor:
        """The mean row of B (outputs,), all tokens alike: all that is left to fit when no column is kept."""
        return self._sum / self._tokens

    def by_unit(self, weight: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """The same problem for one scale per unit of `size` columns of a fixed `weight` (outputs, columns).

        With O_i = A_i W_i^T, what unit i says: the matrix of all <O_i, O_j>, (units, units), and <O_i, B>, (units,).
        """
        fixed = weight.double()
        units = fixed.shape[1] // size
        products = ((fixed.T @ fixed) * self._gram).reshape(units, size, units, size).sum((1, 3))
        return products, (fixed.T * self._right).sum(1).reshape(units, size).sum(1)

    def solve(self, old: Tensor, least: float = _JITTER) -> Fit:
        """The new weight near the `old` (outputs, columns).

        The ridge pulls towards the old weight, so directions the data does not show stay as they were. It is `least`,
        a tiny jitter, a real ridge when tokens are scarce, and grows tenfold while the Cholesky factorisation fails.
        """
        prior = old.double().T
        scale = self._gram.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
        ridge = least if self._tokens >= _TOKENS_PER_COLUMN * len(self._gram) else max(least, _SCARCE)
        factor = self._factor(ridge * scale)
        while factor is None and ridge < 1:
            ridge *= 10
            factor = self._factor(ridge * scale)
        if factor is None:
            raise InvalidModel(
                "The model's activations are not finite on the training rows.",
                param="/model",
                remedy="Check that the model gives finite logits on this dataset in float32.",
            )
        solution = torch.cholesky_solve(self._right + ridge * scale * prior, factor)
        weight = solution.T.to(old.dtype).contiguous()
        return Fit(weight, ridge, self._error(prior), self._error(weight.double().T))

    def solve_plainly(self, old: Tensor) -> Fit:
        """The same without a ridge on the normal equations in float32, as the released code solves them.

        The `old` weight (outputs, columns) stays where the solver fails.
        """
        prior = old.double().T
        try:
            found = torch.linalg.lstsq(self._gram.float(), self._right.float(), rcond=0).solution
        except RuntimeError:  # torch.linalg.LinAlgError is one
            found = prior.float()
        solution = found if bool(found.isfinite().all()) else prior.float()
        weight = solution.T.to(old.dtype).contiguous()
        return Fit(weight, 0.0, self._error(prior), self._error(weight.double().T))

    def _factor(self, ridge: Tensor) -> Tensor | None:
        regular = self._gram.clone()
        regular.diagonal().add_(ridge)
        factor, failure = torch.linalg.cholesky_ex(regular)
        return None if failure or not bool(factor.isfinite().all()) else factor

    def _error(self, solution: Tensor) -> float:
        """|A V - B|^2 / |B|^2."""
        squared = (solution * (self._gram @ solution - 2 * self._right)).sum()
        return max(0.0, float(squared) + self._energy) / max(self._energy, torch.finfo(torch.float64).tiny)
