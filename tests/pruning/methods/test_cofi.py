"""CoFi: the ascent of its multipliers, the target's path, its own distillation, and what it may empty."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pruning.masking.hard_concrete import SHIFT
from pruning.masking.nested import BOUND
from pruning.masking.schedule import linear_decay, linear_ramp
from pruning.methods import create
from pruning.methods._learned import memory
from pruning.methods.cofi import _ASCENT, Cofi, CofiTraining, _rate
from pruning.options import Distill
from pruning.planning.catalogue import method
from pruning.planning.costs import ModelShape, removed_ratio
from pruning.planning.families import FAMILIES
from pruning.planning.settle import settle
from pruning.spec import PruneSpec
from tests.support.adam import Adam
from tests.support.learning import SETTINGS, Run
from tests.support.training import Classroom, classroom

ABLE = replace(
    method("leap"),
    name="cofi",
    granularities=("head", "neuron", "structured"),
    schema=Cofi.Settings.model_json_schema(),
    distill=Cofi.distill.model_dump(mode="json"),
)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Classroom:
    return classroom(tmp_path_factory.mktemp("room"))


def _learner(run: Run, steps: int) -> CofiTraining:
    found = create("cofi", SETTINGS)
    assert isinstance(found, Cofi)
    context = run.context()
    learner = found.learner(context, context.groups(), steps)
    learner.masks.attach(run.model)
    return learner


def test_the_target_rises_in_a_straight_line_after_a_start_without_penalty(
    room: Classroom, tmp_path: Path
) -> None:
    learner = _learner(Run("cofi", room, tmp_path, target_ratio=0.6), 100)
    lagrangian = learner.masks.lagrangian
    learner.advance(5, 100)
    assert float(lagrangian.target) == 0
    assert not learner.penalty().requires_grad
    for step, target in ((10, 0.0), (30, 0.3), (50, 0.6), (52, 0.6)):
        learner.advance(step, 100)
        assert float(lagrangian.target) == pytest.approx(target)
    learner.penalty().backward()
    assert lagrangian.first.grad is not None
    learner.advance(70, 100)
    assert learner.masks.frozen
    assert float(learner.penalty()) == 0
    assert learner.metrics()["remaining"] == pytest.approx(0.4, abs=0.01)


def test_gates_descend_and_multipliers_ascend(room: Classroom, tmp_path: Path) -> None:
    learner = _learner(Run("cofi", room, tmp_path), 100)
    learner.advance(50, 100)
    lagrangian = learner.masks.lagrangian
    lagrangian.unit.fill_(1.0)
    optimizer = torch.optim.AdamW(learner.parameter_groups(), weight_decay=0.0, fused=True)
    removed = 1 - float(learner.masks.remaining().detach())
    before = float(lagrangian.first.detach()), float(lagrangian.second.detach())
    learner.penalty().backward()
    optimizer.step()
    assert 1 - float(learner.masks.remaining().detach()) > removed
    assert float(lagrangian.first.detach()) < before[0]  # below the target: the price of being there falls
    assert float(lagrangian.second.detach()) > before[1]


def test_a_run_reaches_the_ratio_before_it_is_projected(room: Classroom, tmp_path: Path) -> None:
    run = Run("cofi", room, tmp_path, target_ratio=0.5, target_measure="flops")
    outcome = run.prune(max_steps=150, batch_size=8)
    told = [event.data for event in run.events if "remaining" in event.data]
    assert told[-1]["remaining"] == pytest.approx(0.5, abs=0.02)
    assert outcome.kept is not None
    length = room.rows.mean_length
    assert 0.5 <= removed_ratio(run.shape, outcome.kept, "flops", length) < 0.57


@pytest.mark.parametrize(
    ("steps", "ratio"), [(300, 0.5), (300, 0.9), (1_000, 0.8), (3_000, 0.8), (50_000, 0.5), (50_000, 0.9)]
)
def test_the_lagrangian_reaches_its_target_in_short_and_long_runs(steps: int, ratio: float) -> None:
    """Gates whose task wants them open, by noise with a mean; no model, every formula written out."""
    settings = Cofi.Settings(max_steps=steps)
    generator, count, size = np.random.default_rng(0), 100, 1e-3
    wanted, betas = generator.random(count), (0.9, memory(steps))
    gates, rate = Adam(np.full(count, BOUND), betas, 1e-12), _rate(settings, steps)
    multipliers = Adam(np.array([0.0, 100.0]), betas, 1e-8)
    energy, shot = 0.0, 0.0
    for step in range(int(settings.freeze_at * steps)):
        np.clip(gates.values, -BOUND, BOUND, out=gates.values)
        target = ratio * linear_ramp(step / steps, settings.prune_from, settings.prune_until)
        alive = 1 / (1 + np.exp(SHIFT - gates.values))
        gap, fall = 1 - alive.mean() - target, -alive * (1 - alive) / count
        shot = max(shot, gap)
        task = size * (3 * generator.standard_normal(count) - wanted)
        push = np.zeros(count)
        if target:
            first, second = multipliers.values
            push = np.sqrt(energy / np.square(fall).mean()) * (first + 2 * second * gap) * fall
        decay = linear_decay(step, steps, steps // 10)
        gates.step(task + push, rate * decay)
        if target:
            multipliers.step(-np.array([gap, gap**2]), _ASCENT * decay)
        now = np.square(task).mean()
        energy += (0.05 if energy else 1.0) * (now - energy)
    alive = 1 / (1 + np.exp(SHIFT - gates.values))
    assert 1 - alive.mean() == pytest.approx(ratio, abs=0.02)
    assert shot < 0.1


def test_it_learns_from_the_nearest_layers_unless_told_otherwise() -> None:
    config = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    shape = ModelShape.from_config({"model_type": "bert"} | config)

    def distill(asked: Distill | bool) -> Distill | bool:
        spec = PruneSpec(target_ratio=0.5, method="cofi", distill=asked)
        return settle(spec, ABLE, FAMILIES["bert"], shape, trained=True).distill

    assert distill(True) == Cofi.distill
    assert isinstance(Cofi.distill, Distill)
    assert (Cofi.distill.layers, Cofi.distill.projection, Cofi.distill.weight) == ("nearest", True, 1.0)
    own = Distill(temperature=3.0)
    assert distill(own) == own
    assert distill(False) is False
