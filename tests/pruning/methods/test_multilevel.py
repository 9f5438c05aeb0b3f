"""Heads and neurons first, then blocks of what is left: the exact ratio, the two stages, and exact resume."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from pruning.errors import Canceled
from pruning.masking.hybrid import shrink_masks
from pruning.methods import Context, Outcome
from pruning.methods.leap import Leap
from pruning.model.layers import layers, prunable_linears
from pruning.model.shrink import shrink
from pruning.planning.costs import Kept, removed_ratio, total_cost
from tests.support.learning import STEPS, Run
from tests.support.models import tiny_inputs
from tests.support.training import Classroom, classroom, same_weights

DENSE = 14336
RATIO = 0.7


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Classroom:
    return classroom(tmp_path_factory.mktemp("room"))


def _run(room: Classroom, work: Path, granularity: str = "multilevel:4x8", **options: Any) -> Run:
    request = {"granularity": granularity, "target_ratio": RATIO, "target_measure": "weights"}
    return Run("leap", room, work, **request | options)


@pytest.mark.parametrize(
    ("family", "granularity", "block"),
    [("bert", "multilevel:4x8", 32), ("modernbert", "multilevel:16x8", 128)],
)
def test_the_ratio_is_exact_and_removing_what_nothing_is_left_of_changes_no_answer(
    tmp_path: Path, family: str, granularity: str, block: int
) -> None:
    room = classroom(tmp_path, family=family)
    run = _run(room, tmp_path, granularity)
    names = set(run.model.state_dict())
    outcome = run.prune()
    model, masks, kept = run.model, outcome.weight_masks, outcome.kept
    assert masks is not None
    assert kept is not None
    assert set(model.state_dict()) == names
    left = sum(int((linear.weight != 0).sum()) for linear in prunable_linears(model).values())
    dense = total_cost(run.shape, "weights", 1.0)
    assert RATIO - 1e-9 <= 1 - left / dense < RATIO + block / dense
    assert masks.keys() == {f"{name}.weight" for name in prunable_linears(model)}
    for name, mask in masks.items():
        assert torch.equal(model.get_parameter(name) != 0, mask)
    for stayed in kept.neurons:
        assert 0 < len(stayed) < 48
    inputs = tiny_inputs(model)
    with torch.no_grad():
        zeroed = model(**inputs).logits
        cut = shrink_masks(model, masks, kept)
        shrink(model, kept)
        torch.testing.assert_close(model(**inputs).logits, zeroed)
    for name, mask in cut.items():
        assert torch.equal(model.get_parameter(name) != 0, mask)
    assert sum(int(mask.sum()) for mask in cut.values()) == left


def test_the_second_stage_starts_from_the_first_and_learns_from_a_frozen_copy_of_it(
    room: Classroom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[PreTrainedModel, PreTrainedModel | None, bool]] = []
    taught: list[PreTrainedModel] = []
    run = _run(room, tmp_path, "multilevel:16x8", distill=True)
    original = Leap.run

    def listening(self: Leap, context: Context, teacher: PreTrainedModel | None) -> Outcome:
        equal = teacher is not None and same_weights(context.model, teacher)
        seen.append((context.model, teacher, equal))
        if teacher is not None:
            taught.append(copy.deepcopy(teacher))
        return original(self, context, teacher)

    monkeypatch.setattr(Leap, "run", listening)
    outcome = run.prune()
    (dense, _, _), (student, teacher, equal) = seen
    assert dense is run.model
    assert teacher is not None
    assert equal
    assert same_weights(teacher, taught[-1])
    assert not same_weights(teacher, student)
    first = outcome.details["structured"]
    sizes = [(layer.heads, layer.neurons) for layer in layers(student)]
    assert sizes == [(layer.heads, layer.neurons) for layer in layers(teacher)]
    # Heads of 8 features: blocks of 16 rows need two, and as many neurons.
    assert all(heads % 2 == 0 and neurons % 16 == 0 for heads, neurons in sizes)
    assert any(heads < 4 or neurons < 48 for heads, neurons in sizes)
    kept = Kept(
        heads=tuple(tuple(range(heads)) for heads, _ in sizes),
        neurons=tuple(tuple(range(neurons)) for _, neurons in sizes),
    )
    assert first["removed"] == pytest.approx(removed_ratio(run.shape, kept, "weights", 1.0))
    assert (first["steps"], outcome.details["steps"]) == (STEPS // 2, STEPS)
    told = [event.data["fraction"] for event in run.events if event.type == "progress"]
    assert told == sorted(told)


def test_the_stages_share_ratio_and_steps_as_asked(room: Classroom, tmp_path: Path) -> None:
    run = _run(room, tmp_path, "multilevel:4x1")
    outcome = run.prune(structured_ratio=0.5, structured_steps=0.6)
    first = outcome.details["structured"]
    # Rounded up to neurons of which 4 are a block: fewer are removed, by less than 4 of each layer and a unit.
    assert 0.5 - (2 * 3 + 1) * 64 / DENSE < first["removed"] < 0.5 + 64 / DENSE
    assert first["steps"] == 7


def test_a_run_killed_after_every_step_of_both_stages_is_the_same_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = classroom(tmp_path)
    config = json.loads((room.model_dir / "config.json").read_text())
    (room.model_dir / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.1}))
    expected = _run(room, tmp_path / "whole", distill=True)
    outcome = expected.prune()
    stages: list[str] = []
    original = Leap.run

    def listening(self: Leap, context: Context, teacher: PreTrainedModel | None) -> Outcome:
        stages.append(context.granularity.kind)
        return original(self, context, teacher)

    monkeypatch.setattr(Leap, "run", listening)
    kills = 0
    while True:
        resumed = _run(room, tmp_path / "killed", distill=True, stop_after=1)
        try:
            again = resumed.prune()
            break
        except Canceled:
            kills += 1
    # Nobody is asked after the last step of a stage: the first one ends in the run that stops in the second.
    assert kills == STEPS - 2
    assert stages == ["multilevel"] * (STEPS // 2) + ["block"] * (STEPS // 2)
    assert same_weights(expected.model, resumed.model)
    assert again.kept == outcome.kept
    assert again.details["density"] == outcome.details["density"]
    assert same_masks(again, outcome)


def same_masks(one: Outcome, other: Outcome) -> bool:
    left, right = one.weight_masks or {}, other.weight_masks or {}
    return left.keys() == right.keys() and all(torch.equal(mask, right[name]) for name, mask in left.items())
