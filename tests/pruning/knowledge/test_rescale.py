"""Scales of units against dense least squares on what the units really say."""

import pytest
import torch

from pruning.errors import InvalidModel
from pruning.knowledge.rescale import scales
from pruning.knowledge.tune import NormalEquations

TOKENS, OUTPUTS, SIZE = 60, 5, 3


def problem(units: int, seed: int = 0, noise: float = 0.5):
    """U (tokens, columns), a fixed weight, and what should be said: units scaled by 0.5 to 1.5, and noise."""
    generator = torch.Generator().manual_seed(seed)
    inner = torch.randn(TOKENS, units * SIZE, generator=generator)
    weight = torch.randn(OUTPUTS, units * SIZE, generator=generator)
    true = 0.5 + torch.rand(units, generator=generator)
    wanted = (inner * true.repeat_interleave(SIZE)) @ weight.T
    wanted = wanted + noise * torch.randn(TOKENS, OUTPUTS, generator=generator)
    equations = NormalEquations(units * SIZE, OUTPUTS, torch.device("cpu"))
    equations.add(inner, wanted)
    said = torch.stack(
        [
            (inner[:, i : i + SIZE] @ weight[:, i : i + SIZE].T).flatten()
            for i in range(0, units * SIZE, SIZE)
        ],
        1,
    )
    return equations, weight, said.double(), wanted.flatten().double()


@pytest.mark.parametrize("units", [1, 4])
def test_scales_are_those_of_dense_least_squares(units):
    equations, weight, said, wanted = problem(units)
    products, right = equations.by_unit(weight, SIZE)
    torch.testing.assert_close(products, said.T @ said, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(right, said.T @ wanted, rtol=1e-4, atol=1e-3)
    found, damping = scales(products, right)
    expected = torch.linalg.lstsq(said, wanted[:, None]).solution[:, 0]
    assert damping == 1
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def damped(products, right, damping):
    """The same minimum by one dense solve of the stacked system."""
    units = len(products)
    stacked = torch.cat([products, damping * torch.eye(units, dtype=torch.float64)])
    aim = torch.cat([right - products.sum(1), torch.zeros(units, dtype=torch.float64)])
    return 1 + torch.linalg.lstsq(stacked, aim[:, None]).solution[:, 0]


def test_scales_that_run_away_are_damped_until_they_do_not():
    equations, weight, _, _ = problem(4)
    products, right = equations.by_unit(weight, SIZE)
    found, damping = scales(products, right * 100)
    assert damping > 1
    assert float(found.abs().max()) <= 10
    torch.testing.assert_close(found, damped(products, right * 100, damping), rtol=1e-4, atol=1e-4)
    assert float(damped(products, right * 100, damping / 10).abs().max()) > 10


def test_a_unit_that_says_nothing_keeps_its_scale():
    products, right = torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    products[0, 0], right[0] = 100.0, 80.0
    found, _ = scales(products, right)
    assert found.tolist() == pytest.approx([0.8, 1.0], abs=1e-4)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(InvalidModel, match="not finite"):
        scales(torch.full((1, 1), torch.inf, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
