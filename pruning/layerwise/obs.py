"""SparseGPT: drop weights column by column and let the columns to the right make up for it (Frantar, Alistarh 2023)."""

from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from pruning.errors import InvalidModel
from pruning.layerwise.patterns import Groups, Pattern


@dataclass(frozen=True)
class Compressed:
    """A weight (outputs, inputs) that is zero where `kept` is False, and numbers for the report."""

    weight: Tensor
    kept: Tensor
    notes: dict[str, float] = field(default_factory=dict)


def damped(gram: Tensor, dampening: float) -> Tensor:
    """The Gram matrix with `dampening` times the mean of its diagonal added there; a matrix of zeros becomes 1."""
    mean = gram.diagonal().mean()
    regular = gram.clone()
    regular.diagonal().add_(torch.where(mean > 0, dampening * mean, torch.ones_like(mean)))
    return regular


@dataclass(frozen=True)
class Inverse:
    """Upper triangular `factor` U (inputs, inputs) with UT U = the inverse of a damped Gram matrix.

    `dead` (inputs,) names the inputs that always are 0, `dampening` what the factorisation took. All linears that read
    the same inputs share it.
    """

    factor: Tensor
    dead: Tensor
    dampening: float

    @classmethod
    def of(cls, gram: Tensor, dampening: float) -> Self:
        """Of a Gram matrix (inputs, inputs), in float64 and then float32; `dampening` is a part of its mean diagonal.

        Dampening grows tenfold while the Cholesky factorisation fails. Raises InvalidModel when that does not help.
        """
        while True:
            # With the order of inputs reversed, the inverse of a lower factor is an upper factor of the inverse.
            factor, failure = torch.linalg.cholesky_ex(damped(gram.double(), dampening).flip(0, 1))
            if not failure and bool(factor.isfinite().all()):
                break
            if dampening >= 1:
                raise InvalidModel(
                    "The model's activations are not finite on the training rows.",
                    param="/model",
                    remedy="Check that the model gives finite logits on this dataset in float32.",
                )
            dampening *= 10
        identity = torch.eye(len(gram), dtype=factor.dtype, device=gram.device)
        inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
        return cls(inverse.flip(0, 1).float(), gram.diagonal() == 0, dampening)


def sparsegpt(weight: Tensor, inverse: Inverse, pattern: Pattern, *, block: int = 128) -> Compressed:
    """Prune a weight (outputs, inputs) whose inputs have a Gram matrix with that inverse.

    Every `block` columns choose their part of what is kept by w^2 / U_jj^2, with N:M every group when its turn comes;
    each dropped weight is an error that is spread over the columns to its right (algorithm 1). An input that is always
    0 is dropped first and costs nothing.
    """
    factor = inverse.factor
    work = weight.float().clone()
    work[:, inverse.dead] = 0
    inputs = work.shape[1]
    kept = torch.ones_like(work, dtype=torch.bool)
    width = pattern.columns * max(1, block // pattern.columns)
    step = pattern.columns if isinstance(pattern, Groups) else width
    for start in range(0, inputs, width):
        stop = min(start + width, inputs)
        own, columns = factor[start:stop, start:stop], work[:, start:stop].T.contiguous()
        dropped, errors = torch.zeros_like(columns, dtype=torch.bool), torch.empty_like(columns)
        for column in range(stop - start):
            if column % step == 0:
                part = slice(column, min(column + step, stop - start))
                losses = (columns[part] / own.diagonal()[part, None]).square().T
                found = pattern.part(start + part.start, start + part.stop, inputs).keep(losses)
                kept[:, start + part.start : start + part.stop] = found
                dropped[part] = ~found.T
            errors[column] = columns[column] / own[column, column] * dropped[column]
            columns[column:].addr_(own[column, column:], errors[column], alpha=-1)
        work[:, start:stop] = columns.T
        work[:, stop:].addmm_(errors.T, factor[start:stop, stop:], alpha=-1)
    return Compressed(work * kept, kept, {"dampening": inverse.dampening})
