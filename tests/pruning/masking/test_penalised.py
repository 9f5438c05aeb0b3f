"""The penalty against a slow reference, what the controller measures, and that it reaches the ratio."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pruning.granularity import Granularity
from pruning.masking.granularities import units
from pruning.masking.hard_concrete import CUT, SHIFT
from pruning.masking.learned import ScoredMask
from pruning.masking.penalised import PenalisedMasks, part_shares, pressure
from pruning.masking.schedule import between, linear_decay, linear_ramp, logit
from pruning.masking.slot_units import SlotUnits
from pruning.masking.units import Units
from pruning.methods._learned import memory
from pruning.methods._penalised import PenalisedSettings, PenalisedTraining
from pruning.planning.costs import ModelShape
from tests.support.adam import Adam
from tests.support.models import tiny_model


def _masks(
    sizes: dict[str, int],
    costs: dict[str, float],
    *,
    shift: float = 0.0,
    seed: int = 0,
    shares: list[float] | None = None,
) -> PenalisedMasks:
    generator = torch.Generator().manual_seed(seed)
    groups: dict[str, Units] = {
        name: SlotUnits(0, "neurons", (), nn.Linear(size, 2), 1, costs[name]) for name, size in sizes.items()
    }
    sources = {name: ScoredMask(torch.randn(size, generator=generator)) for name, size in sizes.items()}
    total = sum(sizes[name] * costs[name] for name in sizes)
    return PenalisedMasks(groups, sources, total, shift, even=False, shares=shares)


TWO = {"a": 5, "b": 11}
COSTS = {"a": 3.0, "b": 1.0}


@pytest.mark.parametrize("shift", [0.0, SHIFT])
def test_the_penalty_is_the_mean_over_groups_of_mean_odds(shift: float) -> None:
    masks = _masks(TWO, COSTS, shift=shift)
    masks.strength.fill_(7.0)
    total = 0.0
    for scores in masks.scores():
        odds = [1 / (1 + math.exp(shift - score)) for score in scores.tolist()]
        total += sum(odds) / len(odds)
    assert float(masks.penalty().detach()) == pytest.approx(7.0 * total / 2, rel=1e-6)


@pytest.mark.parametrize("granularity", ["hybrid:8x8", "structured", "block:8x4"])
@pytest.mark.parametrize("ffn_weight", [1.0, 0.25])
def test_attention_and_ffn_are_weighed_as_wholes(granularity: str, ffn_weight: float) -> None:
    """Block pruning: half of the mean over the attention's tensors, and half of the weighted mean over the FFN's."""
    model = tiny_model("bert")
    shape = ModelShape.from_config(model.config.to_dict())
    groups = units(model, shape, Granularity.parse(granularity), "weights", 1.0, "global")
    generator = torch.Generator().manual_seed(5)
    sources = {
        name: ScoredMask(torch.randn(group.count, generator=generator)) for name, group in groups.items()
    }
    shares = part_shares(model, groups, ffn_weight)
    masks = PenalisedMasks(groups, sources, 1e5, 0.0, even=False, shares=shares)
    masks.strength.fill_(3.0)
    means: dict[str, list[float]] = {"attention": [], "ffn": []}
    for name, source in sources.items():
        ffn = "neurons" in name or "intermediate" in name or (".output" in name and "attention" not in name)
        odds = [1 / (1 + math.exp(-score)) for score in source.scores.tolist()]
        means["ffn" if ffn else "attention"].append(sum(odds) / len(odds))
    layers = {"hybrid:8x8": (8, 2), "structured": (2, 2), "block:8x4": (8, 4)}[granularity]
    assert (len(means["attention"]), len(means["ffn"])) == layers
    attention, ffn = (sum(found) / len(found) for found in means.values())
    expected = 3.0 * (attention / 2 + ffn_weight * ffn / 2)
    assert float(masks.penalty().detach()) == pytest.approx(expected, rel=1e-6)


def test_of_one_part_alone_the_penalty_is_the_mean_over_its_groups() -> None:
    model = tiny_model("bert")
    shape = ModelShape.from_config(model.config.to_dict())
    groups = units(model, shape, Granularity("neuron"), "weights", 1.0, "global")
    assert part_shares(model, groups, 1.0) == [0.5, 0.5]


def test_with_shares_the_task_is_still_observed_alone_and_pressure_counts_in_its_units() -> None:
    masks = _masks(TWO, COSTS, shares=[0.75, 0.5])
    masks.strength.fill_(1000.0)
    tasks = [torch.linspace(-1, 2, size) for size in TWO.values()]
    loss = sum((scores * task).sum() for scores, task in zip(masks.scores(), tasks, strict=True))
    (loss + masks.penalty()).backward()
    masks.observe()
    energies = torch.stack([task.square().mean() for task in tasks])
    torch.testing.assert_close(masks.energies, energies, rtol=1e-3, atol=0)
    masks.steer(float(masks.marginal(12.0)) - 1.0, 12.0, 1 / 8)
    _, push = pressure(0.0, 8.0)
    marginal = float(masks.marginal(12.0))
    odds = 1 / (1 + math.exp(-marginal))
    pushed = float(masks.strength) * (0.75 + 0.5) * odds * (1 - odds)
    assert pushed == pytest.approx(push * float((energies.sqrt() * torch.tensor([5, 11])).sum()), rel=1e-4)


def test_what_is_observed_is_the_task_alone() -> None:
    """The scores' gradients hold the penalty as well, which may be far larger."""
    masks = _masks(TWO, COSTS)
    masks.strength.fill_(1000.0)
    tasks = [torch.linspace(-1, 2, size) for size in TWO.values()]
    for factor in (1.0, 3.0):
        masks.zero_grad()
        loss = sum((scores * task * factor).sum() for scores, task in zip(masks.scores(), tasks, strict=True))
        (loss + masks.penalty()).backward()
        masks.observe()
    first = torch.stack([task.square().mean() for task in tasks])
    torch.testing.assert_close(masks.energies, 0.95 * first + 0.05 * 9 * first, rtol=1e-3, atol=0)


def test_pressure_one_is_as_strong_as_the_task_at_the_marginal_unit() -> None:
    masks = _masks({"a": 50}, {"a": 1.0})
    masks.energies.fill_(4.0)
    masks.steer(float(masks.marginal(20.0)) - 1.0, 20.0, 1 / 8)
    _, push = pressure(0.0, 8.0)
    (gradient,) = torch.autograd.grad(masks.penalty(), masks.scores())
    marginal = masks.scores()[0].detach().sort(descending=True).indices[19]
    assert float(gradient[marginal]) == pytest.approx(push * 2.0, rel=1e-4)


@given(st.floats(-1e4, 1e4), st.floats(-1e5, 1e5))
def test_the_controller_is_bounded_and_odd(integral: float, lag: float) -> None:
    found = pressure(integral, lag)
    assert all(abs(value) <= 100 for value in found)
    assert pressure(-integral, -lag) == tuple(-value for value in found)
    assert pressure(0.0, 0.0) == (0.0, 0.0)


def test_the_marginal_unit_is_where_the_budget_ends_also_of_a_sample() -> None:
    masks = _masks(TWO, COSTS)
    ranked = sorted(
        ((float(score), COSTS[name]) for name in TWO for score in masks.learned(name).importance()),
        reverse=True,
    )
    spent, expected = 0.0, math.nan
    for score, cost in ranked:
        spent += cost
        if spent > 12.0:
            break
        expected = score
    assert float(masks.marginal(12.0)) == expected
    many = _masks({"a": 300_000, "b": 7}, {"a": 1.0, "b": 2.0})
    exact = torch.cat([many.learned(name).importance() for name in ("a", "b")]).quantile(0.8)
    assert float(many.marginal(60_000.0)) == pytest.approx(float(exact), abs=0.03)


def test_refresh_cuts_and_leaves_a_floor() -> None:
    masks = _masks({"a": 1000, "b": 40}, {"a": 1.0, "b": 1.0})
    masks.refresh(0.5, 0.005)
    for name, kept in masks.kept().items():
        assert torch.equal(kept, masks.learned(name).importance() > 0.5)
    masks.refresh(100.0, 0.005)
    for name, count in (("a", 5), ("b", 1)):
        best = masks.learned(name).importance().topk(count).indices
        assert sorted(masks.kept()[name].nonzero().flatten().tolist()) == sorted(best.tolist())
    masks.refresh(-math.inf, 0.005)
    assert masks.density() == 1


def test_runaway_scores_are_fetched_back() -> None:
    masks = _masks(TWO, COSTS, shift=SHIFT)
    with torch.no_grad():
        masks.scores()[0].copy_(torch.tensor([-50.0, -1.0, 0.0, 1.0, 50.0]))
    masks.bound()
    odds = torch.sigmoid(masks.scores()[0].detach() - SHIFT)
    assert (float(odds.min()), float(odds.max())) == pytest.approx((0.01, 0.99))
    assert masks.scores()[0][1:4].tolist() == [-1.0, 0.0, 1.0]


def test_projection_takes_the_best_of_all_groups() -> None:
    masks = _masks({"a": 50, "b": 50}, {"a": 1.0, "b": 1.0})
    scores = torch.cat([scores.detach() for scores in masks.scores()])
    masks.project(30.0)
    kept = torch.cat(list(masks.kept().values()))
    assert int(kept.sum()) == 30
    assert scores[kept].min() > scores[~kept].max()


SOFT = {"start": 0.0, "cut": logit(0.1), "shift": 0.0}
L0 = {"start": 2.197, "cut": CUT, "shift": SHIFT}


@pytest.mark.parametrize("path", [SOFT, L0], ids=["soft_movement", "l0"])
@pytest.mark.parametrize(
    ("steps", "target"),
    [(300, 0.5), (300, 0.1), (1_000, 0.5), (1_000, 0.1), (3_000, 0.5), (3_000, 0.1), (50_000, 0.1)],
)
def test_the_controller_reaches_the_ratio_in_short_and_long_runs(
    steps: int, path: dict[str, float], target: float
) -> None:
    """In time, and what is kept on the way is never much less."""
    sizes = (1e-6, 1.0) if steps < 5000 else (1e-3,)
    kept, least = zip(*(_simulated(steps, target, size=size, **path) for size in sizes), strict=True)
    assert kept == pytest.approx([target] * len(sizes), abs=0.04 if steps <= 1000 else 0.01)
    assert min(least) > target - 0.05


def _simulated(
    steps: int, target: float, *, size: float, start: float, cut: float, shift: float
) -> tuple[float, float]:
    """The kept fraction when masks would freeze, and the least at any step.

    Scores under Adam, the penalty, and a task that pulls each its way: its gradients, of any `size`, are a constant
    for each unit and three times as much noise.
    """
    settings = PenalisedSettings(max_steps=steps)
    rate = PenalisedTraining(_masks(TWO, COSTS), 1.0, settings, steps, start, cut).rate
    generator, count = np.random.default_rng(0), 300
    own = generator.standard_normal(count)
    adam = Adam(np.full(count, start), (0.9, memory(steps)), 1e-12)
    scores, integral, least = adam.values, 0.0, 1.0
    last = count - round(target * count)
    for step in range(int(settings.freeze_at * steps)):
        np.clip(scores, shift - math.log(99), shift + math.log(99), out=scores)
        progress = step / steps
        gradient = size * (own + 3 * generator.standard_normal(count))
        if progress > settings.prune_from:
            done = linear_ramp(progress, settings.prune_from, settings.prune_until)
            marginal = np.partition(scores, last)[last]
            integral, push = pressure(integral, (marginal - between(start, cut, done)) / rate)
            odds, there = 1 / (1 + np.exp(shift - scores)), 1 / (1 + math.exp(shift - marginal))
            gradient += push * size * math.sqrt(10) * odds * (1 - odds) / (there * (1 - there))
        adam.step(gradient, rate * linear_decay(step, steps, steps // 10))
        least = min(least, np.count_nonzero(scores > cut) / count)
    return float((scores > cut).mean()), least


def test_short_runs_learn_scores_faster_and_long_ones_at_the_published_rate() -> None:
    rates = [
        PenalisedTraining(_masks(TWO, COSTS), 1.0, PenalisedSettings(), steps, 0.0, -2.2).rate
        for steps in (100, 1_000, 10_000, 50_000)
    ]
    assert all(faster > slower for faster, slower in pairwise(rates))
    assert rates[-1] == pytest.approx(0.0118, abs=1e-3)
    given_rate = PenalisedSettings(score_learning_rate=0.05)
    assert PenalisedTraining(_masks(TWO, COSTS), 1.0, given_rate, 100, 0.0, -2.2).rate == 0.05
