"""Soft movement and L0: plain fine-tuning until pruning begins, then the path to the cut."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from pruning.masking.hard_concrete import CUT, HardConcreteMasks
from pruning.masking.penalised import BOUND
from pruning.masking.schedule import logit
from pruning.methods import create
from pruning.methods._learned import LearnedMethod
from pruning.methods._penalised import PenalisedTraining
from pruning.options import Training
from pruning.training.train import fit
from tests.support.learning import SETTINGS, Run
from tests.support.training import Classroom, classroom

METHODS = ("soft_movement", "l0")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Classroom:
    return classroom(tmp_path_factory.mktemp("room"))


def _learner(run: Run, steps: int, **settings: Any) -> PenalisedTraining:
    method = create(run.spec.method, SETTINGS | settings)
    assert isinstance(method, LearnedMethod)
    context = run.context()
    learner = method.learner(context, context.groups(), steps)
    assert isinstance(learner, PenalisedTraining)
    learner.masks.attach(run.model)
    return learner


def _fit(run: Run, work: Path, extension: PenalisedTraining | None, steps: int) -> None:
    fit(
        run.model,
        run.room.task,
        run.room.rows,
        Training(max_steps=steps, batch_size=8, learning_rate=1e-4),
        seed=0,
        precision="fp32",
        device=torch.device("cpu"),
        work=work,
        events=run.events.append,
        should_stop=lambda: None,
        phase="pruning",
        span=(0.0, 1.0),
        extension=extension,
    )


@pytest.mark.parametrize("granularity", ["unstructured", "structured"])
def test_without_penalty_and_threshold_soft_movement_is_fine_tuning_bit_for_bit(
    room: Classroom, tmp_path: Path, granularity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Clipping adds up the norms in the order of the parameters, which a mask on a weight changes.
    monkeypatch.setattr("pruning.training.train._MAX_GRADIENT_NORM", 1e9)
    run = Run("soft_movement", room, tmp_path, granularity=granularity)
    learner = _learner(run, 8, prune_from=0.99, prune_until=1.0, freeze_at=1.0)
    _fit(run, tmp_path / "soft", learner, 8)
    assert learner.masks.density() == 1
    assert any((scores != 0).any() for scores in learner.masks.scores())
    assert learner.masks.energies.all()
    learner.masks.bake(run.model)
    plain = Run("soft_movement", room, tmp_path)
    _fit(plain, tmp_path / "plain", None, 8)
    tensors = plain.model.state_dict()
    assert all(torch.equal(value, tensors[name]) for name, value in run.model.state_dict().items())


def test_the_threshold_of_soft_movement_rises_on_the_cubic(room: Classroom, tmp_path: Path) -> None:
    learner = _learner(Run("soft_movement", room, tmp_path), 100, prune_from=0.2, prune_until=0.6)
    assert learner.cut_at(0.2) == -math.inf
    assert learner.cut_at(0.3) == pytest.approx(logit(0.1 * (1 - 0.75**3)))
    assert learner.cut_at(0.6) == learner.cut_at(0.9) == logit(0.1) == learner.cut


def test_scores_of_soft_movement_start_at_the_rank_of_what_was_measured(
    room: Classroom, tmp_path: Path
) -> None:
    """A unit less sensitive than all but a part p of the others starts at prior * logit(1 - p), ties in the middle."""
    learner = _learner(
        Run("soft_movement", room, tmp_path, granularity="neuron", target_ratio=0.4),
        10,
        prior=0.5,
        prune_from=0.2,
    )
    generator = torch.Generator().manual_seed(0)
    seen = [torch.zeros_like(scores) for scores in learner.masks.scores()]
    for step in range(2):
        learner.advance(step, 10)
        for scores, squares in zip(learner.masks.scores(), seen, strict=True):
            scores.grad = torch.randint(0, 3, scores.shape, generator=generator).float()
            squares += scores.grad**2
        learner.sensing.observe()
    learner.sensing.advance(2, 10)
    every = torch.cat(seen)
    for scores, squares in zip(learner.masks.scores(), seen, strict=True):
        for score, own in zip(scores.tolist(), squares, strict=True):
            below, equal = int((every < own).sum()), int((every == own).sum())
            part = (below + equal / 2 + 0.5) / (len(every) + 1)
            assert score == pytest.approx(0.5 * min(max(logit(part), -BOUND), BOUND), abs=1e-5)
    groups = learner.masks.groups.values()
    dropped = 1 - learner.budget / sum(group.count * group.cost for group in groups)
    assert learner.start == pytest.approx(0.5 * logit(dropped))


def test_soft_movement_weighs_parts_as_asked_and_l0_groups_alike(room: Classroom, tmp_path: Path) -> None:
    def shares(method: str, **settings: Any) -> list[float]:
        return _learner(Run(method, room, tmp_path, granularity="hybrid:8x8"), 100, **settings).masks.shares

    # Of each layer query, key, value, attention output; then the neurons of both.
    assert shares("soft_movement") == pytest.approx([0.5 / 8] * 8 + [0.5 / 2] * 2)
    assert shares("soft_movement", ffn_weight=0.2) == pytest.approx([0.5 / 8] * 8 + [0.1 / 2] * 2)
    assert shares("l0") == pytest.approx([1 / 10] * 10)


def test_gates_of_l0_start_open_and_shut_at_one_score(room: Classroom, tmp_path: Path) -> None:
    learner = _learner(Run("l0", room, tmp_path), 100)
    assert all((scores == 2.197).all() for scores in learner.masks.scores())
    assert learner.cut_at(0.1) == learner.cut_at(0.9) == CUT == pytest.approx(-math.log(11))


def test_gates_of_l0_are_a_function_of_seed_and_step(room: Classroom, tmp_path: Path) -> None:
    def noise(seed: int, step: int) -> torch.Tensor:
        learner = _learner(Run("l0", room, tmp_path, seed=seed), 100)
        learner.advance(step, 100)
        assert isinstance(learner.masks, HardConcreteMasks)
        return torch.cat([learner.masks.source(name).noise for name in learner.masks.groups])

    assert torch.equal(noise(1, 5), noise(1, 5))
    assert not torch.equal(noise(1, 5), noise(1, 6))
    assert not torch.equal(noise(1, 5), noise(2, 5))


@pytest.mark.parametrize("name", METHODS)
def test_the_floor_is_half_a_percent_and_less_for_a_small_target(
    room: Classroom, tmp_path: Path, name: str
) -> None:
    usual = _learner(Run(name, room, tmp_path, granularity="unstructured", target_ratio=0.9), 100)
    small = _learner(Run(name, room, tmp_path, granularity="unstructured", target_ratio=0.996), 100)
    assert usual.floor() == 0.005
    assert small.floor() == pytest.approx(0.002)


@pytest.mark.parametrize("name", METHODS)
def test_a_run_reaches_the_ratio_before_it_is_projected(room: Classroom, tmp_path: Path, name: str) -> None:
    """120 steps of a real model: what the penalty left is next to what the projection gives."""
    run = Run(name, room, tmp_path, granularity="unstructured", target_ratio=0.5)
    learner = _learner(run, 120, max_steps=120)
    remaining = []
    project = learner.masks.project

    def listening(budget: float) -> None:
        remaining.append(learner.metrics()["remaining"])
        project(budget)

    learner.masks.project = listening  # type: ignore[method-assign]
    _fit(run, tmp_path, learner, 120)
    assert remaining == [pytest.approx(0.5, abs=0.1)]
    assert learner.metrics()["remaining"] == pytest.approx(0.5, abs=1e-3)
    assert float(learner.penalty()) == 0
