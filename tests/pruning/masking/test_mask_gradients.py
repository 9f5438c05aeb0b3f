"""Every kind of learned mask on every granularity: its gradients against autograd, and against finite differences."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.granularity import Granularity
from pruning.masking.granularities import units
from pruning.masking.hard_concrete import HIGH, LOW, TEMPERATURE, HardConcreteMask, HardConcreteMasks
from pruning.masking.learned import LearnedMasks, ScoredMask
from pruning.masking.nested import NestedMask, NestedMasks
from pruning.masking.ranked import RankedMasks
from pruning.masking.thresholds import ThresholdMasks, Thresholds
from pruning.masking.units import Units
from pruning.planning.costs import ModelShape
from tests.support.models import tiny_inputs, tiny_model

GRANULARITIES = ("unstructured", "block:8x4", "row", "neuron", "head", "structured", "hybrid:8x4")
WARMTH = 3.0
_STEP = 1e-5


def _attached(
    granularity: str, build: Callable[[dict[str, Units], float], LearnedMasks]
) -> tuple[PreTrainedModel, LearnedMasks]:
    """One layer in double precision with masks of random scores, some units dropped."""
    model = tiny_model("bert", layers=1, hidden=16, heads=2, ffn=24)
    shape = ModelShape.from_config(model.config.to_dict())
    groups = units(model, shape, Granularity.parse(granularity), "weights", 1.0, "global")
    masks = build(groups, sum(group.count * group.cost for group in groups.values()))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for scores in masks.scores():
            scores.copy_(torch.randn(scores.shape, generator=generator))
    masks.attach(model)
    return model.double().train(), masks


def _loss(model: PreTrainedModel) -> Tensor:
    return model(**tiny_inputs(model)).logits.square().sum()


def _slope(model: PreTrainedModel, values: Tensor, direction: Tensor) -> float:
    """The central difference of the loss when `values` move along `direction`."""
    losses = []
    with torch.no_grad():
        before = values.clone()
        for sign in (1, -1):
            values.copy_(before + sign * _STEP * direction)
            losses.append(float(_loss(model)))
        values.copy_(before)
    return (losses[0] - losses[1]) / (2 * _STEP)


def _probed(count: int) -> list[Tensor]:
    return [torch.eye(count, dtype=torch.float64)[unit] for unit in sorted({0, count // 2, count - 1})]


def _opened(model: PreTrainedModel, masks: LearnedMasks, name: str) -> Tensor:
    """The mask of one group as an ordinary tensor in place of its source, with its gradient by autograd."""
    source = masks.source(name)
    values = source().detach().clone().requires_grad_()
    source.forward = lambda: values  # type: ignore[method-assign]
    model.zero_grad()
    _loss(model).backward()
    return values


def _scored(groups: dict[str, Units], total: float) -> LearnedMasks:
    sources = {name: ScoredMask(torch.zeros(group.count)) for name, group in groups.items()}
    return RankedMasks(groups, sources, total, "local", even=False)


def _thresholds(chain_rule: bool) -> Callable[[dict[str, Units], float], LearnedMasks]:
    def build(groups: dict[str, Units], total: float) -> LearnedMasks:
        thresholds = Thresholds(len(groups), WARMTH, chain_rule)
        with torch.no_grad():
            thresholds.values.copy_(torch.linspace(-1, 2, len(groups)) * WARMTH)
        return ThresholdMasks(groups, range(len(groups)), thresholds, total)

    return build


@pytest.mark.parametrize("kind", ["scores", "chain rule", "released rule"])
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_straight_through_gradients(granularity: str, kind: str) -> None:
    """dL/dS = dL/dM of kept and dropped units; a threshold gets dL/da of M -> a M at a = 1, or that times its slope."""
    build = _scored if kind == "scores" else _thresholds(kind == "chain rule")
    model, masks = _attached(granularity, build)
    if isinstance(masks, ThresholdMasks):
        masks.refresh()
    elif isinstance(masks, RankedMasks):
        masks.refresh(0.5 * sum(group.count * group.cost for group in masks.groups.values()), search=True)
    _loss(model).backward()
    found = [scores.grad for scores in masks.scores()]
    pulls = masks.thresholds.values.grad if isinstance(masks, ThresholdMasks) else None
    for index, name in enumerate(masks.groups):
        own = masks.source(name).forward
        values = _opened(model, masks, name)
        assert values.grad is not None
        torch.testing.assert_close(found[index], values.grad)
        for direction in _probed(len(values)):
            slope = _slope(model, values, direction)
            assert slope == pytest.approx(float((found[index] * direction).sum()), rel=1e-4, abs=1e-7)
        if isinstance(masks, ThresholdMasks) and pulls is not None:
            kept = float(torch.sigmoid(masks.thresholds.values[index].detach() / WARMTH))
            factor = kept * (1 - kept) / WARMTH if kind == "chain rule" else 1.0
            common = _slope(model, values, values.detach().clone())
            assert float(pulls[index]) == pytest.approx(factor * common, rel=1e-4, abs=1e-7)
        masks.source(name).forward = own  # type: ignore[method-assign]
    assert any(not kept.all() for kept in masks.kept().values())


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_what_remains_has_the_slope_of_its_thresholds(granularity: str) -> None:
    _, masks = _attached(granularity, _thresholds(True))
    assert isinstance(masks, ThresholdMasks)
    values = masks.thresholds.values
    masks.remaining().backward()
    assert values.grad is not None
    for direction in _probed(len(values)):
        with torch.no_grad():
            values.add_(_STEP * direction)
            above = float(masks.remaining())
            values.sub_(2 * _STEP * direction)
            below = float(masks.remaining())
            values.add_(_STEP * direction)
        slope = (above - below) / (2 * _STEP)
        assert slope == pytest.approx(float((values.grad * direction).sum()), rel=1e-5)


def _gates(groups: dict[str, Units], total: float) -> LearnedMasks:
    sources = {name: HardConcreteMask(torch.zeros(group.count)) for name, group in groups.items()}
    return HardConcreteMasks(groups, sources, total, 0.0, even=False)


def _nested(groups: dict[str, Units], total: float) -> LearnedMasks:
    return NestedMasks(groups, total, even=False)


@pytest.mark.parametrize(
    ("build", "granularity"),
    [
        *((_gates, granularity) for granularity in GRANULARITIES),
        *((_nested, granularity) for granularity in ("neuron", "head", "structured")),
    ],
)
def test_random_gates_have_the_gradient_of_what_was_drawn(
    build: Callable[[dict[str, Units], float], LearnedMasks], granularity: str
) -> None:
    model, masks = _attached(granularity, build)
    assert isinstance(masks, HardConcreteMasks | NestedMasks)
    masks.draw(4)
    _loss(model).backward()
    for name in masks.groups:
        gate = masks.source(name)
        assert isinstance(gate, HardConcreteMask)
        whole = gate.whole if isinstance(gate, NestedMask) else None
        parameters = [gate.scores] if whole is None else [gate.scores, whole]
        gradients = [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]
        for parameter, gradient in zip(parameters, gradients, strict=True):
            for direction in _probed(len(parameter)):
                slope = _slope(model, parameter.data, direction)
                assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-3, abs=1e-6)
        own, (fine, slopes) = gate.forward, _by_hand(gate.scores, gate.noise)
        coarse = torch.ones(1).double()
        if isinstance(gate, NestedMask) and gate.whole is not None:
            coarse, steep = _by_hand(gate.whole, gate.whole_noise)
        values = _opened(model, masks, name)
        torch.testing.assert_close(values.detach(), fine * coarse)
        torch.testing.assert_close(gradients[0], values.grad * coarse * slopes)
        if whole is not None:
            torch.testing.assert_close(gradients[1], (values.grad * fine).sum() * steep)
        gate.forward = own  # type: ignore[method-assign]


def _by_hand(scores: nn.Parameter, noise: Tensor) -> tuple[Tensor, Tensor]:
    """The gate and its derivative by the score: nothing where it is cut to 0 or 1."""
    concrete = 1 / (1 + torch.exp(-(noise + scores.detach()) / TEMPERATURE))
    stretched = concrete * (HIGH - LOW) + LOW
    slope = (HIGH - LOW) * concrete * (1 - concrete) / TEMPERATURE
    return stretched.clamp(0, 1), slope * ((stretched > 0) & (stretched < 1))
