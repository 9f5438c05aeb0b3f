"""ALPS: choose what stays by operator splitting, then fit it by conjugate gradients (Meng et al. 2024)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pruning.layerwise.obs import Compressed, damped
from pruning.layerwise.patterns import Pattern

_START = 0.1
_SMALLEST, _LARGEST = 1e-4, 1e6
_EVERY = 3
"""Iterations between two looks at the support."""
_FAST, _SLOW, _SETTLED = 0.1, 5e-3, 3e-4
"""Changes of the support, as parts of it, that say how the penalty goes on."""
_PATIENCE = 30
_FIT_STEPS = 10
_FIT_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Problem:
    """min over W of tr((W - W0) G (W - W0)T) in inputs scaled so that G has a diagonal of ones.

    `gram` (inputs, inputs) and `dense` (outputs, inputs) are scaled, `right` = dense gram; `basis` (inputs, inputs)
    and `values` (inputs,) are the eigenvectors and eigenvalues of `gram`.
    """

    gram: Tensor
    dense: Tensor
    right: Tensor
    basis: Tensor
    values: Tensor

    @classmethod
    def of(cls, weight: Tensor, gram: Tensor, basis: Tensor, values: Tensor) -> "Problem":
        """The problem of a scaled weight."""
        return cls(gram, weight, weight @ gram, basis, values)

    def near(self, wanted: Tensor, penalty: float) -> Tensor:
        """The solution (outputs, inputs) of X (gram + penalty) = wanted."""
        return (wanted @ self.basis / (self.values + penalty)) @ self.basis.T


@dataclass(frozen=True)
class Scaled:
    """A damped Gram matrix scaled to a diagonal of ones, with the `scale` (inputs,) and its eigenvectors.

    All linears that read the same inputs share it: this is the dear part, O(inputs^3) in float64.
    """

    gram: Tensor
    scale: Tensor
    basis: Tensor
    values: Tensor

    @classmethod
    def of(cls, gram: Tensor, dampening: float) -> "Scaled":
        """Of a Gram matrix (inputs, inputs) float32."""
        regular = damped(gram.double(), dampening)
        scale = regular.diagonal().sqrt()
        regular.div_(scale).div_(scale[:, None])
        values, basis = torch.linalg.eigh(regular)
        return cls(regular.float(), scale.float(), basis.float(), values.clamp_min(0).float())


def alps(
    weight: Tensor,
    scaled: Scaled,
    pattern: Pattern,
    *,
    iterations: int = 300,
    beat: Callable[[], None] = lambda: None,
) -> Compressed:
    """Prune a weight (outputs, inputs) whose inputs have the Gram matrix `scaled`; `beat` may raise to stop."""
    problem = Problem.of(weight.float() * scaled.scale, scaled.gram, scaled.basis, scaled.values)
    kept, done = choose(problem, pattern, iterations, beat)
    fitted = fit(problem.gram, problem.right, problem.dense * kept, kept)
    return Compressed(fitted / scaled.scale, kept, {"iterations": float(done)})


def choose(
    problem: Problem, pattern: Pattern, iterations: int, beat: Callable[[], None] = lambda: None
) -> tuple[Tensor, int]:
    """The mask (outputs, inputs) that stays, and the iterations it took (algorithm 1 of the paper).

    The penalty rises with every change of the support, faster when much changes (equation 6 and its schedule, released
    code). Where it starts too high for much to change, it falls to a fifth and all begins again, unless it is tiny.
    """
    first = seen = pattern.keep(problem.dense.square())
    count = max(1, int(first.sum()))
    sparse, dual = problem.dense * first, torch.zeros_like(problem.dense)
    penalty, raised = _START, False
    free = problem.dense
    for iteration in range(1, iterations + 1):
        free = problem.near(problem.right - dual + penalty * sparse, penalty)
        sparse = free + dual / penalty
        kept = pattern.keep(sparse.square())
        sparse = sparse * kept
        dual = dual + penalty * (free - sparse)
        if iteration % _EVERY:
            continue
        beat()
        changed = int((kept ^ seen).sum()) / count
        if changed <= _SLOW and not raised and penalty > _SMALLEST:
            penalty, seen = penalty / 5, first
            sparse, dual = problem.dense * first, torch.zeros_like(dual)
            continue
        if not changed or (iteration >= _PATIENCE and changed < _SETTLED):
            return pattern.keep(free.square()), iteration
        penalty = min(_LARGEST, penalty * (1.3 if changed > _FAST else 1.2 if changed > _SLOW else 1.1))
        raised, seen = True, kept
    return pattern.keep(free.square()), iterations


def fit(gram: Tensor, right: Tensor, start: Tensor, kept: Tensor) -> Tensor:
    """Conjugate gradients for W gram = right on the support `kept`, all rows at once: (outputs, inputs).

    `gram` has a diagonal of ones, so that this is the preconditioned iteration of the paper (algorithm 2).
    """
    tiny = torch.finfo(start.dtype).tiny
    solution = start
    residual = (right - solution @ gram) * kept
    direction = residual
    energy = residual.square().sum(1, keepdim=True)
    enough = _FIT_TOLERANCE**2 * (right * kept).square().sum()
    for _ in range(_FIT_STEPS):
        if energy.sum() <= enough:
            break
        image = (direction @ gram) * kept
        step = energy / (direction * image).sum(1, keepdim=True).clamp_min(tiny)
        solution = solution + step * direction
        residual = residual - step * image
        fresh = residual.square().sum(1, keepdim=True)
        direction = residual + fresh / energy.clamp_min(tiny) * direction
        energy = fresh
    return solution
