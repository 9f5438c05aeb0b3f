"""LEAP's thresholds under the regulariser alone, without a model: in runs of any length the target is reached in time.

The identities are those that follow from the published loss (Yao et al. 2022) and its released code.
"""

import math
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from pruning.masking.schedule import linear_decay, logit
from pruning.masking.select import keep_top
from pruning.masking.slot_units import SlotUnits
from pruning.masking.thresholds import START, ThresholdMasks, Thresholds
from pruning.masking.units import Units
from pruning.methods._learned import memory
from pruning.methods.leap import _MOMENTUM, Leap, LeapTraining, Regulariser, temperature
from tests.support.adam import Adam

OVERSHOOT = 0.1
"""No run ever keeps less than this part below its target."""


def _masks(sizes: dict[str, int], warmth: float, *, chain_rule: bool = True) -> ThresholdMasks:
    groups: dict[str, Units] = {
        name: SlotUnits(0, "neurons", (), nn.Linear(size, 2), 1, 1.0) for name, size in sizes.items()
    }
    thresholds = Thresholds(len(groups), warmth, chain_rule)
    return ThresholdMasks(groups, range(len(groups)), thresholds, sum(sizes.values()))


@cache
def _path(steps: int, target: float) -> list[float]:
    """What remains after each step until the masks freeze, every formula written out."""
    settings = Leap.Settings(max_steps=steps)
    warmth = temperature(settings, steps, target)
    sigma = Adam(np.array([START * warmth]), (_MOMENTUM, memory(steps)), 1e-12)
    path = []
    for step in range(int(settings.freeze_at * steps)):
        keep = 1 / (1 + math.exp(-sigma.values[0] / warmth))
        excess = max(0.0, keep - target)
        strength = max(160 * excess**2 / (1 - target) ** 2, 10.0) if excess**2 >= 3e-4 else 2.0
        gradient = 2 * strength * excess * keep * (1 - keep) / warmth
        sigma.step(np.array([gradient]), 1e-2 * linear_decay(step, steps, steps // 10))
        path.append(1 / (1 + math.exp(-sigma.values[0] / warmth)))
    return path


@pytest.mark.parametrize("target", [0.5, 0.1, 0.03])
@pytest.mark.parametrize("steps", [300, 1_000, 3_000, 50_000])
def test_thresholds_reach_the_target_in_time_and_do_not_shoot_past_it(steps: int, target: float) -> None:
    path = _path(steps, target)
    assert path[-1] == pytest.approx(target, abs=0.02)
    assert min(path) > target * (1 - OVERSHOOT)
    assert path[steps // 8] > 0.5  # not at once
    reached = next(step for step, keep in enumerate(path) if keep < target + 0.02)
    assert 0.15 < reached / steps < 0.48


def test_the_path_is_that_of_the_optimizer_that_trains() -> None:
    steps, target = 300, 0.1
    settings = Leap.Settings(max_steps=steps)
    masks = _masks({"only": 50}, temperature(settings, steps, target))
    regulariser = Regulariser(target, settings.strongest, settings.weakest)
    training = LeapTraining(masks, regulariser, 1.0, settings, steps)
    optimizer = torch.optim.AdamW(training.parameter_groups()[1:], weight_decay=0.0)
    path = []
    for step in range(int(settings.freeze_at * steps)):
        optimizer.param_groups[0]["lr"] = settings.score_learning_rate * linear_decay(
            step, steps, steps // 10
        )
        training.penalty().backward()
        optimizer.step()
        optimizer.zero_grad()
        path.append(float(masks.remaining().detach()))
    assert path == pytest.approx(_path(steps, target), abs=1e-3)


@pytest.mark.parametrize("chain_rule", [True, False])
def test_the_equilibrium_of_task_and_regulariser(chain_rule: bool) -> None:
    """A pull G of the task holds what remains above the target, by the cube root of |G| (1 - R_t)^2 / (2 lambda p).

    Without the chain rule G also lacks the slope of the sigmoid, so that it holds off more the flatter that is.
    """
    warmth, target, strongest = 2.0, 0.1, 160.0
    masks = _masks({"small": 100, "large": 300}, warmth, chain_rule=chain_rule).double()
    values, share = masks.thresholds.values, 0.25
    with torch.no_grad():
        values.copy_(torch.tensor([logit(0.4), logit(0.3)], dtype=torch.float64) * warmth)
    remaining = masks.remaining()
    now = float(remaining.detach())
    assert now == pytest.approx(0.25 * 0.4 + 0.75 * 0.3)
    pull = 2 * strongest * share * (now - target) ** 3 / (1 - target) ** 2
    if not chain_rule:
        pull *= 0.4 * 0.6 / warmth
    (Regulariser(target, strongest, 0.1)(remaining) - pull * masks.thresholds.signal(0)).backward()
    assert values.grad is not None
    assert float(values.grad[0]) == pytest.approx(0, abs=1e-6)
    assert float(values.grad[1]) > 1e-3


def test_without_the_chain_rule_a_weak_regulariser_stops_far_above_the_target() -> None:
    """Three matrices whose task pulls each its way; flat sigmoids weaken the regulariser alone, not the pull."""
    target, warmth, steps, pulls = 0.1, 8.0, 2_500, np.array([0.002, 0.005, 0.01])
    ends = []
    for chain_rule in (True, False):
        sigma = Adam(np.full(3, START * warmth), (_MOMENTUM, memory(steps)), 1e-12)
        for step in range(steps):
            keep = 1 / (1 + np.exp(-sigma.values / warmth))
            slope, excess = keep * (1 - keep) / warmth, max(0.0, keep.mean() - target)
            regulariser = 2 * max(160 * excess**2 / (1 - target) ** 2, 0.1) * excess / 3 * slope
            task = -pulls * (slope if chain_rule else 1.0)
            sigma.step(regulariser + task, 0.1 * (1 - step / steps))
        ends.append(float((1 / (1 + np.exp(-sigma.values / warmth))).mean()))
    chained, released = ends
    assert chained == pytest.approx(target, abs=0.06)
    assert released > target + 2 * (chained - target)


@pytest.mark.parametrize(("start", "dropped"), [(10.0, 26), (START, 3_947)])
def test_tie_counts_at_the_start(start: float, dropped: int) -> None:
    """Equal scores of a 768x768 matrix: as many as the threshold says go, the last ones first."""
    count = 768 * 768
    kept = keep_top(torch.zeros(count), math.ceil(count / (1 + math.exp(-start))))
    assert int((~kept).sum()) == dropped
    assert bool(kept[: count - dropped].all())


def test_what_remains_is_what_a_direct_count_finds() -> None:
    sizes = {"heads": 12, "rows": 96, "neurons": 400}
    masks = _masks(sizes, 3.0)
    with torch.no_grad():
        masks.thresholds.values.copy_(torch.tensor([logit(part) * 3.0 for part in (0.25, 0.5, 0.75)]))
        for scores in masks.scores():
            scores.copy_(torch.rand(len(scores), generator=torch.Generator().manual_seed(0)))
    masks.refresh()
    counted = sum(int(kept.sum()) for kept in masks.kept().values())
    # The sigmoid of a logit may be a rounding error above its fraction, and what is kept is rounded up.
    assert float(masks.remaining().detach()) == pytest.approx(counted / sum(sizes.values()), abs=3.1 / 508)
    assert counted - 351 in range(4)
