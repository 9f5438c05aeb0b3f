"""Hard top-k masks: movement scores in closed form, exact counts, what dropped weights do, and the shared limit."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning.granularity import Granularity
from pruning.masking.granularities import units
from pruning.masking.learned import ScoredMask
from pruning.masking.ranked import MagnitudeMask, RankedMasks
from pruning.masking.slot_units import SlotUnits
from pruning.masking.units import Units
from pruning.masking.weight_units import stored
from pruning.planning.costs import ModelShape
from tests.support.linears import masked_linear, task
from tests.support.models import tiny_inputs, tiny_model


def _movement(groups: dict[str, Units], sources: Any) -> RankedMasks:
    total = sum(group.count * group.cost for group in groups.values())
    return RankedMasks(groups, sources, total, "local", even=False)


def _scored(group: Units) -> ScoredMask:
    return ScoredMask(torch.zeros(group.count))


def _step(linear: nn.Linear, parameters: list[Tensor], rate: float, seed: int = 0) -> Tensor:
    """One step of SGD; returns the gradient of the masked weight, worked out by hand."""
    inputs, targets = task(seed)
    effective = linear.weight.detach().clone()
    loss = (inputs @ linear.weight.T - targets).square().sum() / 2
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        with torch.no_grad():
            parameter.sub_(rate * gradient)
    return (inputs @ effective.T - targets).T @ inputs


@pytest.mark.parametrize("block", [(1, 1), (2, 3), (1, 6)])
def test_scores_are_the_sum_of_weight_times_gradient_under_sgd(block: tuple[int, int]) -> None:
    """S_T = -rate * sum over steps of gradient * W, also of dropped units (Sanh, Wolf and Rush 2020, section 4).

    The weights of dropped units stand still.
    """
    linear, masks = masked_linear(block, _scored, _movement)
    source, weight = masks.source("only"), stored(linear, "weight")
    expected = torch.zeros_like(weight)
    for step in range(10):
        masks.refresh(24 * (1 - step / 20), search=True)
        before = weight.detach().clone()
        gradient = _step(linear, [weight, source.scores], 0.05, seed=step)
        expected -= 0.05 * gradient * before
        dropped = ~source.kept.reshape(4 // block[0], 6 // block[1])
        dropped = dropped.repeat_interleave(block[0], 0).repeat_interleave(block[1], 1)
        assert torch.equal(weight.detach()[dropped], before[dropped])
    rows, columns = block
    pooled = [
        expected[row : row + rows, column : column + columns].sum()
        for row in range(0, 4, rows)
        for column in range(0, 6, columns)
    ]
    torch.testing.assert_close(source.scores.detach(), torch.stack(pooled))
    assert not source.kept.all()


def test_movement_says_how_much_the_square_of_a_weight_grew() -> None:
    """Without a mask and with small steps: S_T = (W_T^2 - W_0^2) / 2."""
    linear, masks = masked_linear((1, 1), _scored, _movement)
    source, weight = masks.source("only"), stored(linear, "weight")
    before = weight.detach().clone()
    for _ in range(300):
        _step(linear, [weight, source.scores], 1e-4)
    growth = (weight.detach().square() - before.square()).reshape(-1) / 2
    torch.testing.assert_close(source.scores.detach(), growth, rtol=0.02, atol=2e-4)


@pytest.mark.parametrize("regrow", [False, True])
def test_dropped_weights_stand_still_unless_they_may_regrow(regrow: bool) -> None:
    linear, masks = masked_linear((1, 1), lambda group: MagnitudeMask(group, regrow), _movement)
    weight = stored(linear, "weight")
    masks.refresh(10.0, search=True)
    dropped = ~masks.source("only").kept.reshape(4, 6)
    before = weight.detach().clone()
    assert (linear.weight[dropped] == 0).all()
    for step in range(10):
        gradient = _step(linear, [weight], 0.01, seed=step)
        if step == 0:
            moved = 0.01 * (gradient if regrow else gradient * ~dropped)
            torch.testing.assert_close(before - weight.detach(), moved)
    assert torch.equal(weight[dropped], before[dropped]) is not regrow
    assert not torch.equal(weight[~dropped], before[~dropped])
    masks.freeze()
    assert torch.autograd.grad(linear.weight.sum(), weight)[0][dropped].eq(0).all()


def test_magnitude_ranks_weights_as_they_are_below_the_mask() -> None:
    linear, masks = masked_linear((2, 3), lambda group: MagnitudeMask(group, regrow=False), _movement)
    weight = stored(linear, "weight")
    tiles = [weight[row : row + 2, column : column + 3] for row in (0, 2) for column in (0, 3)]
    expected = torch.stack([tile.square().mean().sqrt() for tile in tiles])
    masks.refresh(6.0, search=True)
    assert int(masks.source("only").kept.sum()) == 1
    torch.testing.assert_close(masks.learned("only").importance(), expected.detach())
    best = int(expected.argmax())
    with torch.no_grad():
        tiles[best].mul_(0.01)  # a survivor shrinks: the next best, which was dropped, comes back
    masks.refresh(6.0, search=True)
    second = int(expected.detach().index_fill(0, torch.tensor(best), 0).argmax())
    assert masks.source("only").kept.nonzero().tolist() == [[second]]


def test_a_dropped_neuron_that_may_regrow_learns_in_what_writes_it() -> None:
    model = tiny_model("bert")
    shape = ModelShape.from_config(model.config.to_dict())
    groups = units(model, shape, Granularity("neuron"), "weights", 1.0, "global")
    masks = _movement(groups, {name: MagnitudeMask(group, regrow=True) for name, group in groups.items()})
    masks.attach(model)
    masks.refresh(40 * 64.0, search=True)
    model(**tiny_inputs(model)).logits.square().sum().backward()
    dropped = ~masks.source("0.neurons").kept
    layer = model.base_model.encoder.layer[0]
    assert (layer.intermediate.dense.weight.grad[dropped] != 0).any()
    assert (layer.output.dense.weight.grad[:, dropped] == 0).all()


@pytest.mark.parametrize("scope", ["local", "global"])
def test_masks_follow_the_budget(scope: Any) -> None:
    sizes, costs = {"a": 40, "b": 60}, {"a": 5.0, "b": 2.0}
    masks = _pair(sizes, costs, scope)
    for budget in (320.0, 200.0, 101.0, 9.0):
        masks.refresh(budget, search=True)
        counts = {name: int(kept.sum()) for name, kept in masks.kept().items()}
        spent = sum(costs[name] * count for name, count in counts.items())
        assert min(counts.values()) >= 1
        if scope == "local":
            assert budget - 2 < spent <= budget
            assert counts["a"] / 40 == pytest.approx(counts["b"] / 60, abs=0.1)
        else:
            # The first unit that does not fit ends the list; the best of each group stays whatever it costs.
            assert budget - 5 < spent <= budget + 5


def test_the_shared_limit_holds_between_two_searches() -> None:
    masks = _pair({"a": 40, "b": 60}, {"a": 1.0, "b": 1.0}, "global")
    masks.refresh(50.0, search=True)
    limit = masks.limit.clone()
    assert sum(int(kept.sum()) for kept in masks.kept().values()) == 50
    scores = masks.learned("a").scores
    with torch.no_grad():
        scores.sub_(100.0)
    masks.refresh(50.0, search=False)
    assert masks.limit == limit
    assert masks.kept()["a"].nonzero().tolist() == [[int(scores.argmax())]]  # only the best of its group
    masks.refresh(50.0, search=True)
    assert masks.limit < limit
    masks.project(50.0)
    assert [int(kept.sum()) for kept in masks.kept().values()] == [1, 49]


def _pair(sizes: dict[str, int], costs: dict[str, float], scope: Any) -> RankedMasks:
    generator = torch.Generator().manual_seed(1)
    groups: dict[str, Units] = {
        name: SlotUnits(0, "neurons", (), nn.Linear(size, 2), 1, costs[name]) for name, size in sizes.items()
    }
    sources = {name: ScoredMask(torch.randn(size, generator=generator)) for name, size in sizes.items()}
    return RankedMasks(groups, sources, 320.0, scope, even=False)
