"""Scores, patterns, swaps and layer ratios against loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pruning.layerwise.owl import kept_fractions, outliers
from pruning.layerwise.patterns import Groups, Pattern, Rows, Tiles
from pruning.layerwise.scores import ria, wanda
from pruning.layerwise.statistics import Gram, InputSquares
from pruning.layerwise.swaps import error, swap


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_scores_are_those_of_the_papers() -> None:
    weight, inputs = normal(5, 7), normal(30, 7, seed=1)
    squares = InputSquares(7, torch.device("cpu"))
    squares.add(inputs)
    for row in range(5):
        for column in range(7):
            size = abs(float(weight[row, column]))
            norm = math.sqrt(sum(float(x) ** 2 for x in inputs[:, column]))
            relative = size / float(weight[:, column].abs().sum()) + size / float(weight[row].abs().sum())
            assert wanda(weight, squares.squares)[row, column] == pytest.approx(size * norm, rel=1e-5)
            expected = relative * norm**0.5
            assert ria(weight, squares.squares)[row, column] == pytest.approx(expected, rel=1e-5)
            assert ria(weight, squares.squares, 0)[row, column] == pytest.approx(relative, rel=1e-5)


def test_a_row_and_a_column_of_zeros_have_no_relative_importance() -> None:
    weight = normal(4, 4)
    weight[1], weight[:, 2] = 0, 0
    found = ria(weight, torch.ones(4))
    assert found.isfinite().all()
    assert not found[1].any()
    assert not found[:, 2].any()


@pytest.mark.parametrize("inputs", [1, 3, 8, 520])
def test_statistics_are_sums_over_all_tokens(inputs: int) -> None:
    chunks = [normal(tokens, inputs, seed=tokens) for tokens in (5, 1, 9)]
    gram, squares = Gram(inputs, torch.device("cpu")), InputSquares(inputs, torch.device("cpu"))
    for chunk in chunks:
        gram.add(chunk)
        squares.add(chunk.bfloat16().double())
    rows = torch.cat(chunks)
    torch.testing.assert_close(gram.squares, rows.square().sum(0))
    torch.testing.assert_close(squares.squares, rows.square().sum(0), rtol=2e-2, atol=1e-3)
    for _ in range(2):
        torch.testing.assert_close(gram.matrix(), rows.T @ rows, rtol=1e-4, atol=1e-5)
    assert (gram.tokens, gram.bytes, squares.bytes) == (15, 4 * inputs**2, 8 * inputs)


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_parts_of_a_pattern_side_by_side_keep_as_much_as_the_whole(data: st.DataObject) -> None:
    block = data.draw(st.sampled_from([(1, 1), (2, 3), (4, 1)]))
    grid = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9))
    outputs, inputs = grid[0] * block[0], grid[1] * block[1]
    losses = torch.rand(
        outputs, inputs, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 9)))
    )
    count = data.draw(st.integers(0, grid[0] * grid[1]))
    patterns: list[tuple[Pattern, int]] = [(Tiles(count, block), count * block[0] * block[1])]
    if block == (1, 1):
        patterns.append((Rows(count), count))
    width = block[1] * data.draw(st.integers(1, 4))
    for pattern, weights in patterns:
        whole = pattern.keep(losses)
        parts = [
            pattern.part(start, min(start + width, inputs), inputs).keep(losses[:, start : start + width])
            for start in range(0, inputs, width)
        ]
        assert whole.sum() == torch.cat(parts, 1).sum() == weights
        assert whole.shape == losses.shape


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_every_group_keeps_its_number_and_the_best(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 8))
    zeros = data.draw(st.integers(1, size - 1))
    losses = torch.rand(3, 4 * size, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 9))))
    kept = Groups(zeros, size).keep(losses)
    for row in range(3):
        for start in range(0, 4 * size, size):
            group = losses[row, start : start + size]
            best = sorted(group.tolist(), reverse=True)[: size - zeros]
            assert sorted(group[kept[row, start : start + size]].tolist(), reverse=True) == best


def test_rows_keep_equally_many_within_one_and_the_next_best_where_there_is_one_more() -> None:
    losses = normal(5, 8).abs()
    kept = Rows(5 * 3 + 2).keep(losses)
    following = losses.sort(1, descending=True).values[:, 3]
    more = following.topk(2).indices.tolist()
    for row in range(5):
        expected = losses[row].topk(4 if row in more else 3).indices.tolist()
        assert sorted(expected) == kept[row].nonzero().flatten().tolist()
    with pytest.raises(ValueError, match="cannot keep 41 of 40"):
        Rows(41).keep(losses)


def best_exchange(weight: Tensor, kept: Tensor, gram: Tensor, group: int) -> float:
    """The least error of a row (inputs,) after one exchange, or none, by trying all."""
    inputs = len(weight)
    found = [float(error(weight[None], kept[None], gram))]
    for out in range(inputs):
        for back in range(inputs):
            if kept[out] and not kept[back] and out // group == back // group:
                other = kept.clone()
                other[out], other[back] = False, True
                found.append(float(error(weight[None], other[None], gram)))
    return min(found)


@pytest.mark.parametrize("group", [None, 4])
def test_one_swap_is_the_best_of_all_exchanges(group: int | None) -> None:
    weight, inputs = normal(6, 12).double(), normal(40, 12, seed=1).double() @ normal(12, 12, seed=2).double()
    gram = inputs.T @ inputs
    kept = Groups(2, 4).keep(wanda(weight, gram.diagonal()))
    found = error(weight, swap(weight, kept, gram, 1, group=group), gram)
    for row in range(6):
        assert float(found[row]) == pytest.approx(best_exchange(weight[row], kept[row], gram, group or 12))


@given(st.integers(0, 10_000), st.sampled_from([None, 4]), st.integers(0, 6))
@settings(deadline=None, max_examples=40)
def test_swaps_never_raise_the_error_and_keep_as_many(seed: int, group: int | None, most: int) -> None:
    weight, inputs = normal(5, 16, seed=seed), normal(20, 16, seed=seed + 1)
    gram = inputs.T @ inputs
    pattern = Groups(1, 4) if group else Rows(37)
    kept = pattern.keep(weight.abs())
    before, last = error(weight.double(), kept, gram.double()), kept
    found = swap(weight, kept, gram, most, group=group)
    after = error(weight.double(), found, gram.double())
    assert (after <= before * (1 + 1e-9)).all()
    assert torch.equal(found.sum(1), kept.sum(1))
    assert most > 0 or torch.equal(found, last)
    if group:
        assert torch.equal(found.view(5, 4, 4).sum(2), kept.view(5, 4, 4).sum(2))


def test_swaps_look_at_few_rows_at_once_and_can_be_stopped() -> None:
    weight, gram = normal(4, 2100), torch.eye(2100)
    kept = Rows(4 * 2000).keep(weight.abs())
    asked: list[int] = []
    assert torch.equal(swap(weight, kept, gram, 3, beat=lambda: asked.append(0)), kept)
    assert len(asked) == 4


def test_outliers_are_far_above_the_mean_of_the_layer() -> None:
    scores = [normal(4, 5).abs(), normal(6, 3, seed=1).abs() * 3]
    every = [float(score) for matrix in scores for score in matrix.flatten()]
    mean = sum(every) / len(every)
    assert outliers(scores, 2.0) == sum(score > 2 * mean for score in every) / len(every) > 0


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=8), st.floats(0.01, 0.99), st.floats(0.001, 0.499))
def test_layers_with_more_outliers_keep_more(found: list[float], ratio: float, spread: float) -> None:
    kept = kept_fractions(found, ratio, spread)
    assert all(-1e-9 <= fraction <= 1 + 1e-9 for fraction in kept)
    assert sum(kept) / len(kept) == pytest.approx(1 - ratio)
    assert max(kept) - min(kept) <= 2 * spread + 1e-9
    for one, its in zip(found, kept, strict=True):
        for other, others in zip(found, kept, strict=True):
            assert one <= other or its >= others - 1e-12


def test_the_spread_is_that_of_the_released_code() -> None:
    found, ratio, spread = [0.02, 0.05, 0.03, 0.04], 0.7, 0.08
    scaled = [(each - min(found)) * 2 * spread / (max(found) - min(found)) for each in found]
    expected = [each - sum(scaled) / 4 + (1 - ratio) for each in scaled]
    assert kept_fractions(found, ratio, spread) == pytest.approx(expected)
