"""SparseGPT and ALPS against slow, obvious solutions."""

from itertools import combinations, product

import pytest
import torch
from torch import Tensor

from pruning.errors import InvalidModel
from pruning.layerwise.admm import Problem, Scaled, alps, choose, fit
from pruning.layerwise.obs import Compressed, Inverse, damped, sparsegpt
from pruning.layerwise.patterns import Groups, Pattern, Tiles


def data(outputs: int = 8, inputs: int = 16, tokens: int = 200, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A weight, and the Gram matrix of inputs that are strongly correlated."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(tokens, inputs, generator=generator) @ torch.randn(
        inputs, inputs, generator=generator
    )
    return torch.randn(outputs, inputs, generator=generator), mixed.T @ mixed


def change(weight: Tensor, pruned: Tensor, gram: Tensor) -> float:
    """The squared change of the outputs."""
    difference = (pruned - weight).double()
    return float((difference @ gram.double() * difference).sum())


def brain_surgeon(weight: Tensor, gram: Tensor, pattern: Pattern, width: int, step: int) -> Tensor:
    """Row by row: each dropped weight is compensated by all to its right, with a fresh inverse every time."""
    hessian = damped(gram.double(), 0.01)
    work = weight.double().clone()
    outputs, inputs = work.shape
    inverses = [torch.linalg.inv(hessian[column:, column:]) for column in range(inputs)]
    kept = torch.ones_like(work, dtype=torch.bool)
    for column in range(inputs):
        if column % width % step == 0:
            stop = min(column + step, inputs, column - column % width + width)
            chosen = range(column, stop)
            losses = torch.stack([work[:, c].square() / inverses[c][0, 0] for c in chosen], dim=1)
            kept[:, column:stop] = pattern.part(column, stop, inputs).keep(losses)
        for row in range(outputs):
            if not kept[row, column]:
                inverse = inverses[column]
                work[row, column:] -= work[row, column] / inverse[0, 0] * inverse[0]
    return work * kept


@pytest.mark.parametrize(
    ("pattern", "block", "step"),
    [
        (Tiles(70), 5, 5),
        (Tiles(70), 128, 16),
        (Groups(2, 4), 8, 4),
        (Groups(1, 2), 128, 2),
        (Tiles(12, (2, 4)), 8, 8),
    ],
)
def test_sparsegpt_is_the_surgeon_of_every_row(pattern: Pattern, block: int, step: int) -> None:
    weight, gram = data()
    found = sparsegpt(weight, Inverse.of(gram, 0.01), pattern, block=block)
    expected = brain_surgeon(weight, gram, pattern, min(block, 16), step)
    torch.testing.assert_close(found.weight.double(), expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(found.weight != 0, found.kept)
    assert found.notes == {"dampening": 0.01}


def test_the_factor_is_that_of_the_inverse() -> None:
    _, gram = data()
    factor = Inverse.of(gram, 0.01).factor.double()
    assert torch.equal(factor, factor.triu())
    inverse = torch.linalg.inv(damped(gram.double(), 0.01))
    torch.testing.assert_close(factor.T @ factor, inverse, rtol=1e-4, atol=1e-7)


def test_dampening_grows_until_the_matrix_can_be_factorised() -> None:
    assert Inverse.of(torch.tensor([[1.0, 1.05], [1.05, 1.0]]), 0.01).dampening == pytest.approx(0.1)
    with pytest.raises(InvalidModel, match="not finite"):
        Inverse.of(torch.full((2, 2), torch.nan), 0.01)


@pytest.mark.parametrize("method", ["sparsegpt", "alps"])
def test_inputs_that_are_never_on_cost_nothing(method: str) -> None:
    weight, gram = data()
    gram[3], gram[:, 3] = 0, 0
    found = solve(method, weight, gram, Tiles(70))
    others = torch.arange(16) != 3
    assert not found.weight[:, 3].any()
    assert found.weight.isfinite().all()
    assert found.kept[:, others].sum() == 70


@pytest.mark.parametrize("method", ["sparsegpt", "alps"])
def test_a_layer_that_reads_nothing_can_be_pruned(method: str) -> None:
    weight, gram = data()
    found = solve(method, weight, torch.zeros_like(gram), Groups(2, 4))
    assert found.weight.isfinite().all()
    assert torch.equal(found.kept.view(8, 4, 4).sum(2), torch.full((8, 4), 2))


def solve(method: str, weight: Tensor, gram: Tensor, pattern: Pattern) -> Compressed:
    if method == "sparsegpt":
        return sparsegpt(weight, Inverse.of(gram, 0.01), pattern)
    return alps(weight, Scaled.of(gram, 0.01), pattern)


@pytest.mark.parametrize("pattern", [Tiles(1000), Groups(2, 4), Tiles(60, (4, 4))])
@pytest.mark.parametrize("seed", range(3))
def test_alps_changes_outputs_less_than_sparsegpt(pattern: Pattern, seed: int) -> None:
    weight, gram = data(outputs=48, inputs=64, tokens=400, seed=seed)
    errors = {
        method: change(weight, solve(method, weight, gram, pattern).weight, gram)
        for method in ("alps", "sparsegpt")
    }
    assert errors["alps"] < 0.9 * errors["sparsegpt"]


def best_fit(weight: Tensor, gram: Tensor, support: list[int]) -> Tensor:
    """The row (inputs,) on that support that changes the output least."""
    fitted = torch.zeros_like(weight)
    block = gram[support][:, support]
    fitted[support] = torch.linalg.solve(block, gram[support] @ weight)
    return fitted


def test_alps_finds_nearly_the_best_of_all_supports() -> None:
    """Of one row with 2:4 of 12 inputs, 216 supports, by brute force: the median of 20 problems, and the worst."""
    groups = [list(combinations(range(start, start + 4), 2)) for start in (0, 4, 8)]
    supports = [[*one, *two, *three] for one, two, three in product(*groups)]
    ratios = []
    for seed in range(20):
        weight, gram = data(outputs=1, inputs=12, tokens=50, seed=seed)
        regular = damped(gram.double(), 0.01)
        dense = weight[0].double()
        best = min(
            change(dense[None], best_fit(dense, regular, support)[None], regular) for support in supports
        )
        ratios.append(
            change(weight, alps(weight, Scaled.of(gram, 0.01), Groups(2, 4)).weight, regular) / best
        )
    assert min(ratios) >= 1 - 1e-3
    assert sorted(ratios)[10] < 1.1
    assert max(ratios) < 3.5


def test_the_fit_is_least_squares_on_the_support() -> None:
    weight, gram = data(outputs=3, inputs=8)
    scaled = Scaled.of(gram, 0.3)
    dense = weight * scaled.scale
    kept = torch.rand(3, 8, generator=torch.Generator().manual_seed(1)) < 0.6
    found = fit(scaled.gram.double(), (dense @ scaled.gram).double(), (dense * kept).double(), kept)
    for row in range(3):
        support = kept[row].nonzero().flatten().tolist()
        expected = best_fit(dense[row].double(), scaled.gram.double(), support)
        torch.testing.assert_close(found[row], expected, rtol=1e-2, atol=1e-2)


def test_the_scaled_matrix_has_ones_on_its_diagonal_and_its_own_eigenvectors() -> None:
    _, gram = data()
    scaled = Scaled.of(gram, 0.01)
    torch.testing.assert_close(scaled.gram.diagonal(), torch.ones(16))
    torch.testing.assert_close(scaled.basis * scaled.values @ scaled.basis.T, scaled.gram)
    torch.testing.assert_close(scaled.gram * scaled.scale * scaled.scale[:, None], damped(gram, 0.01))


def test_splitting_stops_when_asked_or_when_nothing_changes() -> None:
    weight, gram = data()
    scaled = Scaled.of(gram, 0.01)
    problem = Problem.of(weight * scaled.scale, scaled.gram, scaled.basis, scaled.values)
    asked: list[int] = []
    kept, done = choose(problem, Tiles(60), 9, lambda: asked.append(0))
    assert (int(kept.sum()), done, len(asked)) == (60, 9, 3)
    _, done = choose(problem, Tiles(60), 300)
    assert done < 300
