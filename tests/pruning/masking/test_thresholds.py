"""Learned masks: gradients against autograd and a loop, and the exact ratio for any shape."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pruning.granularity import Granularity
from pruning.masking.granularities import units
from pruning.masking.schedule import logit
from pruning.masking.select import Scope, keep_top
from pruning.masking.sensitivity import raise_by_sensitivity, sense
from pruning.masking.slot_units import SlotUnits
from pruning.masking.thresholds import START, ThresholdMask, ThresholdMasks, Thresholds
from pruning.masking.units import Units
from pruning.masking.weight_units import WeightUnits
from pruning.methods.leap import Leap, Regulariser, temperature
from pruning.planning.costs import ModelShape
from tests.support.models import tiny_inputs, tiny_model

TEMPERATURE = 2.0


def _masks(
    groups: dict[str, Units], *, chain_rule: bool = True, keep: float = 0.6, shared: bool = False
) -> ThresholdMasks:
    generator = torch.Generator().manual_seed(3)
    owners = [0] * len(groups) if shared else list(range(len(groups)))
    thresholds = Thresholds(max(owners) + 1, TEMPERATURE, chain_rule)
    with torch.no_grad():
        thresholds.values.fill_(logit(keep) * TEMPERATURE)
    total = sum(group.count * group.cost for group in groups.values())
    masks = ThresholdMasks(groups, owners, thresholds, total)
    with torch.no_grad():
        for scores in masks.scores():
            scores.copy_(torch.rand(len(scores), generator=generator))
    masks.refresh()
    return masks


@pytest.mark.parametrize("granularity", ["unstructured", "block:8x4", "structured"])
def test_scores_and_thresholds_get_the_gradient_of_the_mask(granularity: str) -> None:
    """The reference multiplies by the mask as an ordinary tensor and lets autograd differentiate."""
    model = tiny_model("bert")
    shape = ModelShape.from_config(model.config.to_dict())
    groups = units(model, shape, Granularity.parse(granularity), "weights", 1.0, "global")
    masks = _masks(groups)
    masks.attach(model)
    inputs = tiny_inputs(model)
    model(**inputs).logits.square().sum().backward()

    reference = {name: masks.source(name).kept.float().requires_grad_() for name in groups}
    _forward_with(model, masks, reference, inputs).square().sum().backward()
    slope = masks.thresholds.fractions() * (1 - masks.thresholds.fractions()) / TEMPERATURE
    for index, (name, mask) in enumerate(reference.items()):
        source = masks.source(name)
        assert isinstance(source, ThresholdMask)
        torch.testing.assert_close(source.scores.grad, mask.grad)
        assert (mask.grad[~source.kept] != 0).any()  # dropped units are heard as well
        threshold = masks.thresholds.values.grad[index]
        torch.testing.assert_close(threshold, (mask.grad * mask).sum() * slope[index].detach())


def _forward_with(
    model: torch.nn.Module, masks: ThresholdMasks, reference: dict[str, Tensor], inputs: dict[str, Tensor]
) -> Tensor:
    for name, mask in reference.items():
        masks.source(name).forward = lambda mask=mask: mask
    return model(**inputs).logits


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_final_counts_are_rounded_up_to_multiples_of_which_there_are_enough(keep: float) -> None:
    groups: dict[str, Units] = {
        "a": SlotUnits(0, "neurons", (), torch.nn.Linear(40, 2), 1, 3.0),
        "b": SlotUnits(0, "heads", (), torch.nn.Linear(5, 2), 1, 10.0),
        "c": SlotUnits(1, "neurons", (), torch.nn.Linear(20, 2), 1, 3.0),
    }
    counts = {}
    for multiples in ({}, {"a": 16, "b": 2}):
        masks = _masks(groups, keep=keep)
        masks.multiples = [multiples.get(name, 1) for name in groups]
        masks.project(keep * 230)
        counts[bool(multiples)] = {name: int(kept.sum()) for name, kept in masks.kept().items()}
        assert all(
            torch.equal(kept, keep_top(masks.learned(name).importance(), int(kept.sum())))
            for name, kept in masks.kept().items()
        )
    for name, step in (("a", 16), ("b", 2), ("c", 1)):
        count = counts[False][name]
        while count % step and count < groups[name].count:
            count += 1
        assert counts[True][name] == count


def test_mask_gradient_is_the_weight_times_its_gradient() -> None:
    linear = torch.nn.Linear(6, 4, bias=False)
    groups: dict[str, Units] = {"only": WeightUnits(linear, "weight", (2, 3))}
    masks = _masks(groups, chain_rule=False)
    source = masks.source("only")
    inputs = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    effective = (linear.weight * groups["only"].expand(source())).detach().requires_grad_()
    (inputs @ effective.T).square().sum().backward()
    (inputs @ (linear.weight * groups["only"].expand(source())).T).square().sum().backward()
    sensitivity = effective.grad * linear.weight.detach()
    expected = [sensitivity[r : r + 2, c : c + 3].sum() for r in (0, 2) for c in (0, 3)]
    torch.testing.assert_close(source.scores.grad, torch.stack(expected))
    # The released rule: the derivative by a common factor on what survives, without the sigmoid's slope.
    common = (effective.grad * effective.detach()).sum()
    torch.testing.assert_close(masks.thresholds.values.grad, common[None])


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("granularity", ["unstructured", "block:8x4", "structured"])
def test_sensitivity_is_the_root_of_the_summed_squares_of_the_mask_gradient(
    granularity: str, scope: Scope
) -> None:
    model = tiny_model("bert")
    shape = ModelShape.from_config(model.config.to_dict())
    groups = units(model, shape, Granularity.parse(granularity), "weights", 1.0, "global")
    masks = _masks(groups)
    masks.attach(model)
    before = {name: scores.detach().clone() for name, scores in zip(groups, masks.scores(), strict=True)}
    expected = {name: torch.zeros(group.count) for name, group in groups.items()}
    for seed in range(3):
        model.zero_grad()
        reference = {name: masks.source(name).kept.float().requires_grad_() for name in groups}
        own = {name: masks.source(name).forward for name in groups}
        _forward_with(model, masks, reference, tiny_inputs(model, seed=seed)).square().sum().backward()
        for name in groups:
            expected[name] += reference[name].grad ** 2
            masks.source(name).forward = own[name]
        model(**tiny_inputs(model, seed=seed)).logits.square().sum().backward()
        sense(masks)
    raise_by_sensitivity(masks, 2.0, scope)
    for name, scores in zip(groups, masks.scores(), strict=True):
        root = expected[name].sqrt()
        competing = root if scope == "local" else torch.cat([every.sqrt() for every in expected.values()])
        torch.testing.assert_close(scores.detach(), before[name] + 2 * root / competing.mean())


def test_units_that_nothing_depends_on_change_nothing() -> None:
    groups: dict[str, Units] = {"only": SlotUnits(0, "neurons", (), torch.nn.Linear(10, 2), 1, 1.0)}
    masks = _masks(groups)
    before = masks.scores()[0].detach().clone()
    raise_by_sensitivity(masks, 1.0, "local")
    assert torch.equal(masks.scores()[0], before)


@given(st.floats(0.02, 0.95), st.floats(0.021, 0.999))
@settings(deadline=None, max_examples=40)
def test_regulariser_pulls_from_above_only(target: float, remaining: float) -> None:
    ratio = torch.tensor(remaining, dtype=torch.float64, requires_grad=True)
    Regulariser(target, 160.0, 10.0)(ratio).backward()
    excess = max(0.0, remaining - target)
    strength = max(160 * excess**2 / (1 - target) ** 2, 10.0) if excess**2 >= 3e-4 else 2.0
    assert ratio.grad.item() == pytest.approx(2 * strength * excess, rel=1e-6, abs=1e-12)


@given(st.lists(st.tuples(st.integers(1, 30), st.floats(0.5, 60)), min_size=1, max_size=6), st.data())
@settings(deadline=None, max_examples=60)
def test_projection_delivers_the_ratio_within_one_unit(
    layout: list[tuple[int, float]], data: st.DataObject
) -> None:
    groups: dict[str, Units] = {
        str(index): SlotUnits(index, "neurons", (), torch.nn.Linear(count, 2), 1, cost)
        for index, (count, cost) in enumerate(layout)
    }
    masks = _masks(groups, keep=data.draw(st.floats(0.01, 0.99)))
    with torch.no_grad():
        noise = data.draw(st.lists(st.floats(-6, 6), min_size=len(layout), max_size=len(layout)))
        masks.thresholds.values.add_(torch.tensor(noise))
    least, most = sum(cost for _, cost in layout), sum(count * cost for count, cost in layout)
    budget = least + data.draw(st.floats(0, 1)) * (most - least)
    masks.project(budget)
    spent = masks.density() * most
    dropped = [cost for (_, cost), kept in zip(layout, masks.kept().values(), strict=True) if not kept.all()]
    assert all(kept.any() for kept in masks.kept().values())
    assert spent <= budget * (1 + 1e-6)
    assert budget - spent < min(dropped, default=math.inf) * (1 + 1e-6)
    assert masks.frozen
    assert not any(parameter.requires_grad for parameter in masks.parameters())


def test_refresh_keeps_the_best_and_rounds_up() -> None:
    groups: dict[str, Units] = {"only": SlotUnits(0, "neurons", (), torch.nn.Linear(10, 2), 1, 1.0)}
    masks = _masks(groups, keep=0.31)
    source = masks.source("only")
    best = source.scores.detach().topk(4).indices  # ceil(3.1)
    assert sorted(best.tolist()) == source.kept.nonzero().flatten().tolist()
    with torch.no_grad():
        masks.thresholds.values.fill_(-1000.0)
    masks.refresh()
    assert int(source.kept.sum()) == 1


def test_a_shared_threshold_keeps_one_width() -> None:
    model = tiny_model("bert")
    shape = ModelShape.from_config(model.config.to_dict())
    groups = units(model, shape, Granularity.parse("structured"), "weights", 1.0, "native")
    masks = _masks(groups, shared=True)
    masks.project(61.0 * groups["0.neurons"].cost)
    assert [int(kept.sum()) for kept in masks.kept().values()] == [30, 30]


def test_a_target_next_to_nothing_has_a_temperature_too() -> None:
    settings = Leap.Settings(max_steps=100)
    for target in (0.99, 0.994, 1 / (1 + math.exp(-START)), 0.999):
        assert 0 < temperature(settings, 100, target) < 10
