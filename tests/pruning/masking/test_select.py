"""Budgets to masks: exact counts, deterministic ties, and never more than a unit of the budget unused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.masking.select import (
    keep_best,
    keep_counts,
    keep_top,
    keep_within,
    kth_by_parts,
    kth_largest,
    lowest_kept,
    round_within,
)

_sizes = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def _scores(sizes: list[int], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    # Few distinct values, so that ties are common.
    return {
        str(index): torch.randint(0, 4, (size,), generator=generator).float()
        for index, size in enumerate(sizes)
    }


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.data())
def test_keep_top_keeps_the_first_of_equal_scores(values: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(values)))
    best = sorted(range(len(values)), key=lambda index: (-values[index], index))[:count]
    kept = keep_top(torch.tensor(values, dtype=torch.float32), count)
    assert kept.nonzero().flatten().tolist() == sorted(best)


@given(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=40), st.data())
def test_both_ways_find_the_kth_largest(values: list[float], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(values)))
    expected = sorted(values, reverse=True)[count - 1]
    for find in (kth_largest, kth_by_parts):
        assert float(find(torch.tensor(values), count)) == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_keeps_the_same_units() -> None:
    scores = torch.randint(-1000, 1000, (300_000,), generator=torch.Generator().manual_seed(0)).float()
    for count in (1, 1_000, 150_000, 299_999):
        assert torch.equal(keep_top(scores.cuda(), count).cpu(), keep_top(scores, count))


def test_keep_top_keeps_the_shape_and_refuses_an_impossible_count() -> None:
    assert keep_top(torch.arange(6.0).reshape(2, 3), 2).tolist() == [[False] * 3, [False, True, True]]
    with pytest.raises(ValueError, match="cannot keep 7 of 6"):
        keep_top(torch.zeros(6), 7)


@settings(deadline=None, max_examples=60)
@given(_sizes, st.integers(0, 99), st.data())
def test_units_of_one_cost_are_counted_exactly_and_no_group_is_empty(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(len(sizes), sum(sizes)))
    scores = _scores(sizes, seed)
    costs = dict.fromkeys(scores, 2.5)
    for scope in ("global", "local"):
        kept = [int(mask.sum()) for mask in keep_best(scores, costs, 2.5 * count, scope).values()]
        assert sum(kept) == count
        assert min(kept) >= 1


@settings(deadline=None, max_examples=60)
@given(_sizes, st.floats(0, 1), st.data())
def test_groups_keep_the_same_fraction_within_a_unit(
    sizes: list[int], part: float, data: st.DataObject
) -> None:
    names = [str(index) for index in range(len(sizes))]
    limits = dict(zip(names, sizes, strict=True))
    costs = {name: data.draw(st.floats(0.5, 50)) for name in names}
    most = sum(costs[name] * limits[name] for name in names)
    budget = sum(costs.values()) + part * (most - sum(costs.values()))
    counts = keep_counts(limits, costs, budget)
    spent = sum(costs[name] * counts[name] for name in names)
    growing = [costs[name] for name in names if counts[name] < limits[name]]
    assert spent <= budget * (1 + 1e-8)
    assert budget - spent < min(growing, default=math.inf)
    assert all(1 <= counts[name] <= limits[name] for name in names)


def test_the_scope_says_whether_groups_compete() -> None:
    scores = {"small": torch.arange(10.0), "large": 100 + torch.arange(90.0)}
    costs = {"small": 1.0, "large": 1.0}
    local = keep_best(scores, costs, 50, "local")
    assert {name: int(mask.sum()) for name, mask in local.items()} == {"small": 5, "large": 45}
    assert local["small"].tolist() == [False] * 5 + [True] * 5
    competing = keep_best(scores, costs, 50, "global")
    assert {name: int(mask.sum()) for name, mask in competing.items()} == {"small": 1, "large": 49}


def test_even_groups_keep_one_number_and_may_leave_the_rest() -> None:
    scores = {"a": torch.arange(8.0), "b": 100 + torch.arange(8.0)}
    kept = keep_best(scores, {"a": 3.0, "b": 3.0}, 31.0, "global", even=True)
    assert [int(mask.sum()) for mask in kept.values()] == [5, 5]
    with pytest.raises(ValueError, match="costs 6"):
        keep_best(scores, {"a": 3.0, "b": 3.0}, 5.0, "global", even=True)


@settings(deadline=None, max_examples=100)
@given(_sizes, st.integers(0, 99), st.floats(0, 1), st.booleans(), st.data())
def test_lowest_kept_is_where_the_budget_ends(
    sizes: list[int], seed: int, part: float, equal: bool, data: st.DataObject
) -> None:
    scores = _scores(sizes, seed)
    costs = {name: 2.0 if equal else data.draw(st.floats(0.5, 50)) for name in scores}
    budget = part * sum(costs[name] * group.numel() for name, group in scores.items())
    ranked = sorted(
        ((float(score), costs[name]) for name, group in scores.items() for score in group),
        key=lambda u: -u[0],
    )
    lowest, spent = ranked[0][0], 0.0
    for score, cost in ranked:
        spent += cost
        if spent > budget * (1 + 1e-9):
            break
        lowest = score
    assert float(lowest_kept(scores, costs, budget)) == lowest


@settings(deadline=None, max_examples=100)
@given(_sizes, st.integers(0, 99), st.floats(0, 1), st.data())
def test_keep_within_leaves_less_than_a_unit_unused(
    sizes: list[int], seed: int, part: float, data: st.DataObject
) -> None:
    costs = [data.draw(st.floats(0.5, 50)) for _ in sizes]
    scores = _scores(sizes, seed)
    by_name = dict(zip(scores, costs, strict=True))
    least, most = sum(costs), sum(cost * size for cost, size in zip(costs, sizes, strict=True))
    budget = least + part * (most - least)
    kept = keep_within(scores, by_name, budget)
    spent = sum(by_name[name] * int(mask.sum()) for name, mask in kept.items())
    dropped = [by_name[name] for name, mask in kept.items() if not mask.all()]
    assert all(mask.any() for mask in kept.values())
    assert spent <= budget * (1 + 1e-8)
    assert budget - spent < min(dropped, default=math.inf)


def test_keep_within_prefers_scores_and_passes_over_what_does_not_fit() -> None:
    scores = {"heads": torch.tensor([9.0, 8.0]), "neurons": torch.tensor([7.0, 6.0, 5.0])}
    kept = keep_within(scores, {"heads": 10.0, "neurons": 1.0}, 12.5)
    assert kept["heads"].tolist() == [True, False]
    assert kept["neurons"].tolist() == [True, True, False]
    with pytest.raises(ValueError, match="costs 11"):
        keep_within(scores, {"heads": 10.0, "neurons": 1.0}, 10.5)


@settings(deadline=None, max_examples=100)
@given(_sizes, st.floats(0, 1), st.data())
def test_round_within_stays_next_to_what_was_wanted(
    sizes: list[int], part: float, data: st.DataObject
) -> None:
    costs = [data.draw(st.floats(0.5, 50)) for _ in sizes]
    wanted = [1 + part * (size - 1) for size in sizes]
    budget = sum(cost * want for cost, want in zip(costs, wanted, strict=True))
    counts = round_within(wanted, costs, sizes, budget)
    spent = sum(cost * count for cost, count in zip(costs, counts, strict=True))
    growing = [cost for cost, count, size in zip(costs, counts, sizes, strict=True) if count < size]
    assert all(1 <= count <= size for count, size in zip(counts, sizes, strict=True))
    assert spent <= budget * (1 + 1e-8)
    assert budget - spent < min(growing, default=math.inf)
