"""Hard concrete gates: values against scalars, the probability of being open, and folding."""

import math
from typing import Any

import pytest
import torch

from pruning.granularity import Granularity
from pruning.masking.granularities import units
from pruning.masking.hard_concrete import (
    CUT,
    SHIFT,
    HardConcreteMask,
    HardConcreteMasks,
    expected,
    fold,
    sampled,
)
from pruning.masking.masks import attach_fixed
from pruning.masking.units import Units
from pruning.planning.costs import ModelShape
from tests.support.models import tiny_inputs, tiny_model


def _gates(granularity: str) -> tuple[Any, HardConcreteMasks]:
    model = tiny_model("bert")
    shape = ModelShape.from_config(model.config.to_dict())
    groups = units(model, shape, Granularity.parse(granularity), "weights", 1.0, "global")
    generator = torch.Generator().manual_seed(0)
    sources = {
        name: HardConcreteMask(2 * torch.randn(group.count, generator=generator))
        for name, group in groups.items()
    }
    total = sum(group.count * group.cost for group in groups.values())
    masks = HardConcreteMasks(groups, sources, total, SHIFT, even=False)
    masks.attach(model)
    return model, masks


def test_gates_against_scalars() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = 3 * torch.randn(200, generator=generator)
    uniform = torch.rand(200, generator=generator)
    random, steady = sampled(scores, torch.logit(uniform)), expected(scores)
    for index in range(200):
        s, u = float(scores[index]), float(uniform[index])
        concrete = 1 / (1 + math.exp(-(math.log(u) - math.log(1 - u) + s) * 1.5))
        assert float(random[index]) == pytest.approx(min(1, max(0, concrete * 1.2 - 0.1)), abs=1e-5)
        assert float(steady[index]) == pytest.approx(min(1, max(0, 1.2 / (1 + math.exp(-s)) - 0.1)), abs=1e-5)
    assert torch.equal(steady > 0, scores > CUT)
    assert {0.0, 1.0} <= set(random.tolist())


@pytest.mark.parametrize("score", [-2.0, 0.0, 2.197])
def test_a_gate_is_open_as_often_as_the_penalty_says(score: float) -> None:
    mask = HardConcreteMask(torch.full((100_000,), score))
    mask.draw(torch.Generator().manual_seed(1))
    often = float((mask() > 0).float().mean())
    assert often == pytest.approx(1 / (1 + math.exp(SHIFT - score)), abs=0.006)


def test_gates_are_random_in_training_and_steady_in_evaluation() -> None:
    mask = HardConcreteMask(torch.zeros(50))
    mask.draw(torch.Generator().manual_seed(3))
    first = mask().detach()
    assert torch.equal(mask().detach(), first)  # one draw, however often it is read
    mask.draw(torch.Generator().manual_seed(4))
    assert not torch.equal(mask().detach(), first)
    mask.draw(torch.Generator().manual_seed(3))
    assert torch.equal(mask().detach(), first)
    mask.eval()
    steady = mask().detach()
    mask.draw(torch.Generator().manual_seed(5))
    assert torch.equal(mask().detach(), steady)
    assert torch.equal(steady, expected(torch.zeros(50)))


def test_the_gradient_is_that_of_the_gate() -> None:
    scores = torch.linspace(-1.5, 1.5, 9, dtype=torch.float64, requires_grad=True)
    noise = torch.linspace(0.5, -0.5, 9, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: sampled(s, noise), (scores,))
    far = torch.tensor([20.0, -20.0], requires_grad=True)
    sampled(far, torch.zeros(2)).sum().backward()
    assert far.grad.tolist() == [0, 0]


@pytest.mark.parametrize("granularity", ["unstructured", "block:8x4", "row", "structured", "hybrid:8x4"])
def test_folding_the_gates_keeps_the_answers(granularity: str) -> None:
    """Units whose gate is shut are those that go: their weights do not matter, all others are multiplied in."""
    model, masks = _gates(granularity)
    model.eval()
    inputs = tiny_inputs(model)
    gated = model(**inputs).logits.detach()
    alive = {name: masks.learned(name).importance() > CUT for name in masks.groups}
    budget = sum(group.cost * int(alive[name].sum()) for name, group in masks.groups.items())
    assert 0.5 < budget / sum(group.count * group.cost for group in masks.groups.values()) < 0.98
    masks.project(budget)
    assert {name: kept.tolist() for name, kept in masks.kept().items()} == {
        name: kept.tolist() for name, kept in alive.items()
    }
    torch.testing.assert_close(model(**inputs).logits, gated, rtol=1e-4, atol=1e-5)
    masks.bake(model)
    torch.testing.assert_close(model(**inputs).logits, gated, rtol=1e-4, atol=1e-5)


def test_a_unit_that_is_kept_although_its_gate_is_shut_is_no_zero() -> None:
    model, masks = _gates("neuron")
    with torch.no_grad():
        for scores in masks.scores():
            scores.fill_(-4.0)
    reader = model.base_model.encoder.layer[1].output.dense
    before = reader.weight.detach().clone()
    masks.project(60 * 64.0)
    kept = masks.kept()["1.neurons"]  # all scores are the same: the other layer has the first 48
    assert int(kept.sum()) == 12
    torch.testing.assert_close(reader.weight[:, kept], 0.01 * before[:, kept])
    assert torch.equal(reader.weight[:, ~kept], before[:, ~kept])


def test_weight_and_bias_of_a_row_see_one_draw() -> None:
    model, masks = _gates("row")
    model.train()
    masks.draw(7)
    name, group = next(iter(masks.groups.items()))
    linear = group.linear
    gates = masks.source(name)().detach()
    torch.testing.assert_close(linear.bias, linear.parametrizations.bias.original * gates)
    torch.testing.assert_close(linear.weight, linear.parametrizations.weight.original * gates[:, None])


def test_folding_ones_changes_nothing() -> None:
    model = tiny_model("bert")
    shape = ModelShape.from_config(model.config.to_dict())
    groups: dict[str, Units] = units(model, shape, Granularity("structured"), "weights", 1.0, "global")
    ones = {name: torch.ones(group.count, dtype=torch.bool) for name, group in groups.items()}
    before = {name: value.clone() for name, value in model.state_dict().items()}
    masks = attach_fixed(model, groups, ones)
    for group in groups.values():
        fold(group, torch.ones(group.count))
    masks.bake(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
