"""Layers of one size: against the best of all counts, one by one."""

from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pruning.planning.even import even_counts


def slowly(sizes, costs, budget):
    """Every divisor of the heads with as many neurons as still fit: the least spare, then nearest to the fraction."""
    part = budget / sum(size * cost for size, cost in zip(sizes, costs, strict=True))
    fitting = []
    for heads, neurons in product(range(1, sizes[0] + 1), range(1, sizes[1] + 1)):
        spare = budget * (1 + 1e-9) - heads * costs[0] - neurons * costs[1]
        if sizes[0] % heads == 0 and spare >= 0 and (spare < costs[1] or neurons == sizes[1]):
            fitting.append((max(0.0, spare - costs[1]), abs(heads - part * sizes[0]), -heads, neurons))
    _, _, heads, neurons = min(fitting)
    return [-heads, neurons]


@given(
    heads=st.integers(1, 12),
    neurons=st.integers(1, 30),
    ratio=st.integers(2, 40),
    part=st.floats(0.02, 1),
)
def test_it_is_the_best_of_all_counts(heads, neurons, ratio, part):
    sizes, costs = [heads, neurons], [3.0 * ratio, 3.0]
    budget = part * sum(size * cost for size, cost in zip(sizes, costs, strict=True))
    assume(budget >= sum(costs))
    found = even_counts(sizes, costs, budget)
    assert found == slowly(sizes, costs, budget)
    assert heads % found[0] == 0


def test_one_kind_gets_all_that_fits():
    assert even_counts([48], [6.0], 31.0) == [5]
    assert even_counts([4], [6.0], 1e9) == [4]


def test_what_is_wanted_wins_over_the_common_fraction():
    assert even_counts([4, 100], [10.0, 1.0], 60.0) == [2, 40]
    assert even_counts([4, 100], [10.0, 1.0], 60.0, wanted=[3.9, 20]) == [4, 20]


def test_a_budget_below_one_of_each_is_refused():
    with pytest.raises(ValueError, match="more than the 10"):
        even_counts([4, 100], [10.0, 1.0], 10.0)
