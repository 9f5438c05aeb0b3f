"""Movement and gradual magnitude: the masks of a run follow the published schedule, step by step."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pruning.masking.ranked import MagnitudeMask
from pruning.methods import create
from pruning.methods._learned import LearnedMethod, LearnedTraining
from tests.support.learning import Run
from tests.support.training import Classroom, classroom

METHODS = ("movement", "gradual_magnitude")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Classroom:
    return classroom(tmp_path_factory.mktemp("room"))


def _learner(run: Run, steps: int, **settings: Any) -> LearnedTraining:
    method = create(run.spec.method, settings)
    assert isinstance(method, LearnedMethod)
    context = run.context()
    learner = method.learner(context, context.groups(), steps)
    learner.masks.attach(run.model)
    return learner


@pytest.mark.parametrize("granularity", ["unstructured", "structured"])
@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.parametrize("name", METHODS)
def test_what_is_kept_falls_on_the_cubic(
    room: Classroom, tmp_path: Path, name: str, scope: str, granularity: str
) -> None:
    run = Run(name, room, tmp_path, granularity=granularity, target_measure="weights", target_ratio=0.6)
    learner = _learner(run, 100, scope=scope, prune_from=0.25, prune_until=0.75, freeze_at=0.9)
    masks = learner.masks
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for scores in masks.scores():
            scores.copy_(torch.randn(len(scores), generator=generator))
    unit = max(group.cost for group in masks.groups.values())
    everything = sum(group.count * group.cost for group in masks.groups.values())
    for step in range(0, 90, 6):
        learner.advance(step, 100)
        left = 1 - min(1, max(0, (step - 25) / 50))
        expected = everything * (0.4 + 0.6 * left**3)
        kept = masks.density() * everything
        assert kept == pytest.approx(expected, abs=len(masks.groups) * unit if scope == "global" else unit)
        assert not masks.frozen
    learner.advance(90, 100)
    assert masks.frozen
    smallest = min(group.cost for group in masks.groups.values())
    assert 0.4 * everything - smallest < masks.density() * everything <= 0.4 * everything * (1 + 1e-9)


@pytest.mark.parametrize("name", METHODS)
def test_groups_of_local_scope_keep_one_fraction(room: Classroom, tmp_path: Path, name: str) -> None:
    run = Run(name, room, tmp_path, granularity="unstructured", target_ratio=0.75)
    assert set(run.prune(max_steps=4, scope="local").details["density"].values()) == {0.25}


def test_movement_starts_without_a_preference_and_learns_its_scores(room: Classroom, tmp_path: Path) -> None:
    learner = _learner(
        Run("movement", room, tmp_path, granularity="unstructured"), 10, score_learning_rate=0.02
    )
    (group,) = learner.parameter_groups()
    assert (len(group["params"]), group["lr"]) == (12, 0.02)
    assert all((scores == 0).all() and scores.requires_grad for scores in group["params"])


def test_scores_of_movement_start_from_what_was_measured_before_pruning(
    room: Classroom, tmp_path: Path
) -> None:
    run = Run("movement", room, tmp_path, granularity="unstructured")
    learner = _learner(run, 10, prune_from=0.2, score_learning_rate=0.02, prior=3.0)
    generator = torch.Generator().manual_seed(0)
    seen = [torch.zeros_like(scores) for scores in learner.masks.scores()]
    for step in range(3):
        learner.advance(step, 10)
        for scores, squares in zip(learner.masks.scores(), seen, strict=True):
            scores.grad = torch.randn(len(scores), generator=generator)
            squares += scores.grad**2 if step < 2 else 0
        learner.observe()
    # Up over one step, down over nine; masks are frozen after five.
    distance = 0.02 * sum(rate**2 for rate in (0, 1, 8 / 9, 7 / 9, 6 / 9)) ** 0.5
    mean = torch.cat(seen).sqrt().mean()
    for scores, squares in zip(learner.masks.scores(), seen, strict=True):
        torch.testing.assert_close(scores.detach(), 3 * distance * squares.sqrt() / mean)


def test_regrowing_is_an_option_of_gradual_magnitude(room: Classroom, tmp_path: Path) -> None:
    for regrow in (False, True):
        learner = _learner(Run("gradual_magnitude", room, tmp_path), 10, regrow=regrow)
        sources = [learner.masks.source(name) for name in learner.masks.groups]
        assert all(isinstance(source, MagnitudeMask) and source.regrow is regrow for source in sources)
        assert learner.parameter_groups() == []
    runs = [
        Run("gradual_magnitude", room, tmp_path / str(regrow), granularity="block:4x8") for regrow in (0, 1)
    ]
    losses = [run.prune(max_steps=6, regrow=bool(regrow)).details["loss"] for regrow, run in enumerate(runs)]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(("total", "every"), [(100, 1), (2_000, 10), (50_000, 25)])
def test_short_runs_search_at_every_step_and_long_ones_every_25(
    room: Classroom, tmp_path: Path, total: int, every: int
) -> None:
    learner = _learner(Run("gradual_magnitude", room, tmp_path), total)
    searches: list[bool] = []
    learner.masks.refresh = lambda budget, *, search: searches.append(search)  # type: ignore[attr-defined]
    for step in range(50):
        learner.advance(step, total)
    assert [step for step, search in enumerate(searches) if search] == list(range(0, 50, every))
