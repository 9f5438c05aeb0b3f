import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from pruning.errors import InvalidModel
from pruning.knowledge.search import search
from pruning.knowledge.tune import NormalEquations

groups = st.lists(
    st.tuples(st.lists(st.integers(0, 6), min_size=1, max_size=6), st.integers(1, 9)), min_size=1, max_size=4
)


def scan(scores, prices, budget):
    """Algorithm 1 as it is written: raise the threshold until what is above it is affordable; ties by position.

    The last bits of a budget are no reason to refuse a unit: it may be exceeded by a billionth of itself.
    """
    units = [(-score, group, index) for group, each in enumerate(scores) for index, score in enumerate(each)]
    for threshold in [*sorted(units, reverse=True), (-100, 0, 0)]:
        above = [unit for unit in units if unit <= threshold]
        if sum(prices[group] for _, group, _ in above) <= budget * (1 + 1e-9):
            return [
                [(-score, group, index) in above for index, score in enumerate(each)]
                for group, each in enumerate(scores)
            ]
    raise AssertionError


@given(groups, st.floats(0, 1))
@example([([0], 1)], math.nextafter(1, 0))
def test_search_equals_the_scan(drawn, fraction):
    scores, prices = [each for each, _ in drawn], [price for _, price in drawn]
    budget = fraction * sum(len(each) * price for each, price in drawn)
    found = search([torch.tensor(each, dtype=torch.float64) for each in scores], prices, budget)
    assert [kept.tolist() for kept in found] == scan(scores, prices, budget)


def test_prices_that_add_up_to_the_budget_are_not_refused_for_rounding():
    assert search([torch.arange(10.0)], [0.1], 0.7)[0].sum() == 7


def problem(tokens: int, columns: int, outputs: int = 3, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    inner = torch.randn(tokens, columns, generator=generator)
    wanted = torch.randn(tokens, outputs, generator=generator)
    equations = NormalEquations(columns, outputs, torch.device("cpu"))
    for part in (slice(0, tokens // 3), slice(tokens // 3, None)):
        equations.add(inner[part], wanted[part])
    return inner, wanted, equations


def test_the_refit_is_the_least_squares_solution():
    inner, wanted, equations = problem(300, 10)
    fit = equations.solve(torch.zeros(3, 10))
    expected = torch.linalg.lstsq(inner.double(), wanted.double()).solution
    torch.testing.assert_close(fit.weight.double(), expected.T, rtol=1e-4, atol=1e-5)
    residual = (inner.double() @ expected - wanted).square().sum() / wanted.double().square().sum()
    assert fit.error_after == pytest.approx(residual.item(), rel=1e-5)
    assert fit.error_after < fit.error_before == pytest.approx(1.0)


def test_a_weight_is_how_often_a_token_counts_and_leaves_the_mean_alone():
    inner, wanted, _ = problem(60, 5)
    times = torch.arange(60) % 4
    weighed, repeated = (NormalEquations(5, 3, torch.device("cpu")) for _ in range(2))
    weighed.add(inner, wanted, times.float())
    repeated.add(inner.repeat_interleave(times, 0), wanted.repeat_interleave(times, 0))
    found, expected = (each.solve(torch.zeros(3, 5)) for each in (weighed, repeated))
    torch.testing.assert_close(found.weight, expected.weight, rtol=1e-4, atol=1e-5)
    assert found.error_after == pytest.approx(expected.error_after, rel=1e-4)
    torch.testing.assert_close(weighed.mean, wanted.double().mean(0))


def test_where_the_data_says_nothing_the_old_weight_stays():
    inner, wanted, _ = problem(300, 4)
    inner[:, 2] = 0
    equations = NormalEquations(4, 3, torch.device("cpu"))
    equations.add(inner, wanted)
    old = torch.full((3, 4), 0.25)
    assert torch.allclose(equations.solve(old).weight[:, 2], old[:, 2])


def test_few_tokens_get_a_real_ridge_and_columns_in_excess_do_no_harm():
    _, _, equations = problem(8, 10)
    fit = equations.solve(torch.zeros(3, 10))
    assert fit.ridge == 1e-3
    assert fit.weight.isfinite().all()


def test_activations_that_are_not_finite_are_refused():
    _, _, equations = problem(30, 4)
    equations.add(torch.full((1, 4), torch.inf), torch.ones(1, 3))
    with pytest.raises(InvalidModel, match="not finite"):
        equations.solve(torch.zeros(3, 4))


def test_the_mean_is_what_remains_without_columns():
    _, wanted, equations = problem(30, 0)
    torch.testing.assert_close(equations.mean, wanted.double().mean(0))


def test_the_released_solver_has_no_ridge_and_keeps_the_old_weight_where_it_fails():
    inner, wanted, equations = problem(300, 10)
    old = torch.full((3, 10), 0.25)
    fit = equations.solve_plainly(old)
    expected = torch.linalg.lstsq(inner.double(), wanted.double()).solution
    torch.testing.assert_close(fit.weight.double(), expected.T, rtol=1e-3, atol=1e-4)
    assert fit.ridge == 0
    assert fit.error_after < fit.error_before
    equations.add(torch.full((1, 10), torch.inf), torch.ones(1, 3))
    assert torch.equal(equations.solve_plainly(old).weight, old)
