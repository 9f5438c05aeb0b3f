"""Gates at two levels: products against scalars, the expected cost unit by unit, and the exact end."""

import math
from typing import Any

import pytest
import torch

from pruning.granularity import Granularity
from pruning.masking.granularities import units
from pruning.masking.hard_concrete import SHIFT, expected, sampled
from pruning.masking.nested import BOUND, NestedMask, NestedMasks
from pruning.planning.costs import ModelShape, total_cost
from tests.support.models import tiny_inputs, tiny_model


def _masks(granularity: str = "structured", *, even: bool = False, seed: int = 0) -> tuple[Any, NestedMasks]:
    """Gates with random scores on a model of three layers."""
    model = tiny_model("bert", layers=3)
    shape = ModelShape.from_config(model.config.to_dict())
    allocation: Any = "native" if even else "global"
    groups = units(model, shape, Granularity.parse(granularity), "flops", 9.0, allocation)
    masks = NestedMasks(groups, total_cost(shape, "flops", 9.0), even=even)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for scores in masks.scores():
            scores.copy_(2 * torch.randn(scores.shape, generator=generator))
    masks.attach(model)
    return model, masks


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_gates_start_open() -> None:
    mask = NestedMask(50, whole=True)
    mask.draw(torch.Generator().manual_seed(0))
    assert float(mask().detach().mean()) > 0.97
    assert float(mask.steady().min()) == 1
    assert float(mask.importance().exp().min()) > 0.99


def test_a_gate_is_the_product_of_its_own_and_its_sublayers() -> None:
    mask = NestedMask(30, whole=True)
    assert mask.whole is not None
    with torch.no_grad():
        mask.scores.copy_(torch.linspace(-3, 3, 30))
        mask.whole.fill_(0.4)
    mask.draw(torch.Generator().manual_seed(1))
    assert torch.equal(mask(), sampled(mask.scores, mask.noise) * sampled(mask.whole, mask.whole_noise))
    mask.eval()
    assert torch.equal(mask(), expected(mask.scores) * expected(mask.whole))
    mask.train()
    mask().sum().backward()
    assert mask.scores.grad is not None
    assert mask.whole.grad is not None
    assert float(mask.whole.grad) != 0


@pytest.mark.parametrize("granularity", ["structured", "head", "neuron"])
def test_what_remains_is_the_sum_over_units_of_cost_times_both_probabilities(granularity: str) -> None:
    _, masks = _masks(granularity)
    spent = masks.rest * masks.total
    for name, group in masks.groups.items():
        mask = masks.source(name)
        assert isinstance(mask, NestedMask)
        assert mask.whole is not None
        whole = _sigmoid(float(mask.whole.detach()) - SHIFT)
        for score in mask.scores.tolist():
            spent += group.cost * whole * _sigmoid(score - SHIFT)
    assert float(masks.remaining().detach()) == pytest.approx(spent / masks.total, rel=1e-5)


def test_what_remains_is_what_random_gates_leave_on_average() -> None:
    _, masks = _masks()
    left = []
    for seed in range(2000):
        masks.draw(seed)
        open_ = sum(
            float((masks.source(name)().detach() > 0).sum()) * group.cost
            for name, group in masks.groups.items()
        )
        left.append(masks.rest + open_ / masks.total)
    assert sum(left) / len(left) == pytest.approx(float(masks.remaining().detach()), abs=0.01)


def test_noise_is_a_function_of_its_seed() -> None:
    _, masks = _masks()

    def gates(seed: int) -> torch.Tensor:
        masks.draw(seed)
        return torch.cat([masks.source(name)().detach() for name in masks.groups])

    first = gates(3)
    assert not torch.equal(gates(4), first)
    assert torch.equal(gates(3), first)


def test_scores_are_brought_back_and_open_gates_noted() -> None:
    _, masks = _masks()
    with torch.no_grad():
        masks.scores()[0][0] = 50.0
        masks.scores()[0][1] = -50.0
    masks.refresh()
    assert masks.scores()[0][:2].tolist() == [pytest.approx(BOUND), pytest.approx(-BOUND)]
    for name in masks.groups:
        mask = masks.source(name)
        assert isinstance(mask, NestedMask)
        assert torch.equal(mask.kept, mask.steady() > 0)


def test_a_sublayer_whose_gate_is_shut_goes_first_and_as_a_whole() -> None:
    _, masks = _masks()
    with torch.no_grad():
        for scores in masks.scores():
            scores.fill_(3.0)
        shut = masks.source("1.neurons")
        assert isinstance(shut, NestedMask)
        assert shut.whole is not None
        shut.whole.fill_(-4.0)
    group = masks.groups["1.neurons"]
    masks.project((1 - masks.rest) * masks.total - group.count * group.cost)
    kept = masks.kept()
    assert not kept.pop("1.neurons").any()
    assert all(mask.all() for mask in kept.values())


@pytest.mark.parametrize(
    ("granularity", "even"), [("structured", False), ("neuron", False), ("neuron", True)]
)
def test_the_end_is_exact_and_keeps_what_the_gates_computed(granularity: str, even: bool) -> None:
    model, masks = _masks(granularity, even=even)
    masks.refresh()
    model.eval()
    soft = model(**tiny_inputs(model)).logits
    # What is open without noise costs this much: so no gate changes its side.
    costs = {name: group.cost for name, group in masks.groups.items()}
    budget = sum(float(mask.sum()) * costs[name] for name, mask in masks.kept().items())
    masks.project(budget)
    spent = sum(float(mask.sum()) * costs[name] for name, mask in masks.kept().items())
    unit = sum(costs.values()) if even else max(costs.values())
    assert budget - unit < spent <= budget * (1 + 1e-9)
    assert float(masks.remaining()) == pytest.approx(masks.rest + spent / masks.total, rel=1e-6)
    if even:
        assert len({int(mask.sum()) for mask in masks.kept().values()}) == 1
    hard = model(**tiny_inputs(model)).logits
    masks.bake(model)
    torch.testing.assert_close(model(**tiny_inputs(model)).logits, hard)
    assert soft.shape == hard.shape


def test_folding_keeps_the_answers_where_no_gate_changes_its_side() -> None:
    model, masks = _masks("neuron")
    with torch.no_grad():
        for scores in masks.scores():
            scores.abs_().clamp_(0.1, 2.0)  # all open, none of them fully
    masks.refresh()
    model.eval()
    soft = model(**tiny_inputs(model)).logits
    masks.project((1 - masks.rest) * masks.total)
    torch.testing.assert_close(model(**tiny_inputs(model)).logits, soft)
