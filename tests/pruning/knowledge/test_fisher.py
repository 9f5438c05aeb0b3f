"""Fisher mask search against brute force, and rearrangement against the sum it should lower, on tiny groups."""

from itertools import combinations, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning.knowledge.fisher import mask_search, rearrange

values = st.lists(st.integers(0, 9), min_size=1, max_size=4)


def worth(importance, masks):
    return sum(float(importance[name][masks[name]].sum()) for name in importance)


@given(st.lists(st.tuples(st.booleans(), values), min_size=1, max_size=3), st.floats(0, 1), st.integers(1, 7))
@settings(deadline=None, max_examples=60)
def test_the_search_keeps_the_most_information_that_is_affordable(drawn, fraction, head_price):
    importance = {f"{i}": torch.tensor(each, dtype=torch.float64) for i, (_, each) in enumerate(drawn)}
    heads = [f"{i}" for i, (is_head, _) in enumerate(drawn) if is_head]
    prices = {name: float(head_price) if name in heads else 1.0 for name in importance}
    budget = fraction * sum(prices[name] * len(each) for name, each in importance.items())
    found = mask_search(importance, heads, prices, budget)
    units = [(name, index) for name, each in importance.items() for index in range(len(each))]
    best = 0.0
    for chosen in product((False, True), repeat=len(units)):
        kept = [unit for unit, taken in zip(units, chosen, strict=True) if taken]
        head_needed = bool(heads) and budget * (1 + 1e-9) >= head_price
        if head_needed and not any(name in heads for name, _ in kept):
            continue
        if sum(prices[name] for name, _ in kept) <= budget * (1 + 1e-9):
            best = max(best, sum(float(importance[name][index]) for name, index in kept))
    assert sum(prices[name] * int(mask.sum()) for name, mask in found.items()) <= budget * (1 + 1e-9)
    assert worth(importance, found) == pytest.approx(best)


def together(gradients, kept):
    """1^T F 1 over the dropped: the squared sum of their gradients, batch by batch."""
    return float(gradients[:, ~kept].sum(1).square().sum())


def one_pass(gradients, kept):
    """Section 4.2 as it is told: try every dropped unit for every one that is added."""
    dropped = [int(unit) for unit in (~kept).nonzero()]
    order = sorted(
        (int(unit) for unit in kept.nonzero()), key=lambda unit: float(gradients[:, unit].square().sum())
    )
    for unit in order if dropped else []:
        trial = [*dropped, unit]
        sums = [
            float(sum(gradients[:, each] for each in trial if each != back).square().sum()) for back in trial
        ]
        trial.pop(sums.index(min(sums)))
        dropped = trial
    mask = torch.ones_like(kept)
    mask[dropped] = False
    return mask


@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(2, 7))
@settings(deadline=None, max_examples=60)
def test_rearranging_is_the_greedy_pass_between_the_start_and_the_best_of_all(seed, left_out, batches):
    gradients = torch.randn(batches, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    kept = torch.ones(8, dtype=torch.bool)
    kept[gradients.square().sum(0).argsort()[:left_out]] = False
    found = rearrange(gradients, kept)
    assert together(gradients, found) == pytest.approx(together(gradients, one_pass(gradients, kept)))
    assert int(found.sum()) == int(kept.sum())
    best = min(
        float(gradients[:, list(chosen)].sum(1).square().sum()) for chosen in combinations(range(8), left_out)
    )
    assert best - 1e-9 <= together(gradients, found) <= together(gradients, kept) + 1e-9


def test_units_whose_mistakes_cancel_go_together():
    gradients = torch.tensor([[1.0, 1.1, -1.2, 5.0]], dtype=torch.float64)
    kept = torch.tensor([False, False, True, True])
    assert rearrange(gradients, kept).tolist() == [True, False, False, True]


@pytest.mark.parametrize("whole", [True, False])
def test_with_all_or_nothing_kept_there_is_nothing_to_exchange(whole):
    gradients = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept = torch.full((5,), whole)
    assert torch.equal(rearrange(gradients, kept), kept)
