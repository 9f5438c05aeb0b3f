"""What every method that prunes while it trains must hold: the exact ratio, exact resume, and clean models."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pruning.delivery.export import export
from pruning.errors import Canceled
from pruning.methods import METHODS, Outcome, create
from pruning.methods._learned import LearnedMethod
from pruning.model.shrink import shrink
from pruning.planning.costs import head_cost, kept_cost, neuron_cost, removed_ratio, total_cost
from pruning.steps.checkpoint import file_sha256
from tests.support.learning import LEARNED, STEPS, Run
from tests.support.models import tiny_inputs, tiny_tokenizer
from tests.support.training import Classroom, classroom, same_weights

RATIOS = {"unstructured": 0.7, "block:4x8": 0.7, "row": 0.5, "neuron": 0.3, "head": 0.2, "structured": 0.6}
RATIOS |= {"hybrid:4x8": 0.6}
ABLE = [
    (name, granularity)
    for name in LEARNED
    for granularity in RATIOS
    if granularity.partition(":")[0] in METHODS[name].granularities
]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Classroom:
    return classroom(tmp_path_factory.mktemp("room"))


@pytest.mark.parametrize(("name", "granularity"), ABLE)
def test_final_masks_are_exact_and_baking_them_does_not_change_the_answers(
    room: Classroom, tmp_path: Path, name: str, granularity: str
) -> None:
    ratio = RATIOS[granularity]
    run = Run(name, room, tmp_path, granularity=granularity, target_ratio=ratio, target_measure="weights")
    names = set(run.model.state_dict())
    context = run.context()
    groups = context.groups()
    method = create(name, {"max_steps": STEPS})
    assert isinstance(method, LearnedMethod)
    learner = method.learner(context, groups, STEPS)
    learner.masks.attach(run.model)
    learner.finish()
    inputs = tiny_inputs(run.model)
    masked = run.model(**inputs).logits
    outcome = context.outcome(groups, learner.masks.bake(run.model))
    torch.testing.assert_close(run.model(**inputs).logits, masked)
    assert set(run.model.state_dict()) == names
    units = {"head": head_cost(run.shape, "weights", 1.0), "block:4x8": 32, "unstructured": 1}
    unit = units.get(granularity, neuron_cost(run.shape, "weights", 1.0)) / total_cost(
        run.shape, "weights", 1.0
    )
    assert ratio - 1e-9 <= _removed(run, outcome) < ratio + unit
    for parameter, mask in (outcome.weight_masks or {}).items():
        assert torch.equal(run.model.get_parameter(parameter) == 0, ~mask)


def _removed(run: Run, outcome: Outcome) -> float:
    """Counted on the outcome alone, biases apart; heads that only block masks empty are counted there."""
    masks = {name: mask for name, mask in (outcome.weight_masks or {}).items() if name.endswith("weight")}
    total = total_cost(run.shape, "weights", 1.0)
    dropped = float(sum(int((~mask).sum()) for mask in masks.values()))
    if outcome.kept is not None:
        heads = tuple(tuple(range(run.shape.heads)) for _ in range(run.shape.layers))
        kept = outcome.kept.model_copy(update={"heads": heads}) if masks else outcome.kept
        dropped += total - kept_cost(run.shape, kept, "weights", 1.0)
    return dropped / total


SHORT = {"max_steps": 6}
"""What follows needs every phase of a run, not a long one."""


def _mixed(name: str) -> dict[str, Any]:
    """A granularity with masks on weights and on units, where the method has it."""
    able = "hybrid" in METHODS[name].granularities
    return {"granularity": "hybrid:4x8" if able else "structured"}


@pytest.mark.parametrize("name", LEARNED)
def test_a_run_killed_after_every_single_step_is_the_same_bit_for_bit(
    room: Classroom, tmp_path: Path, name: str
) -> None:
    """Each step in a process of its own, as it were: before masks are learned, while they are, and once they froze."""
    options = SHORT | ({"prune_from": 0.25} if name == "leap" else {})
    expected = Run(name, room, tmp_path / "whole", **_mixed(name))
    outcome = expected.prune(**options)
    for _ in range(options["max_steps"] - 1):
        with pytest.raises(Canceled):
            Run(name, room, tmp_path / "killed", stop_after=1, **_mixed(name)).prune(**options)
    resumed = Run(name, room, tmp_path / "killed", **_mixed(name))
    again = resumed.prune(**options)
    assert same_weights(expected.model, resumed.model)
    assert again.kept == outcome.kept
    assert again.details["density"] == outcome.details["density"]
    assert (again.weight_masks or {}).keys() == (outcome.weight_masks or {}).keys()
    for parameter, mask in (outcome.weight_masks or {}).items():
        assert torch.equal((again.weight_masks or {})[parameter], mask)
    assert again.details["steps"] == options["max_steps"]
    assert not same_weights(room.model(), resumed.model)


@pytest.mark.parametrize("name", LEARNED)
def test_the_same_request_twice_gives_the_same_files(room: Classroom, tmp_path: Path, name: str) -> None:
    hashes = []
    for index in range(2):
        run = Run(name, room, tmp_path / f"run {index}")
        outcome = run.prune(**SHORT)
        assert outcome.kept is not None
        shrink(run.model, outcome.kept)
        folder = tmp_path / f"model {index}"
        export(run.model, tiny_tokenizer("bert"), run.shape, outcome.kept, "global", folder)
        hashes.append({path.name: file_sha256(path) for path in folder.iterdir()})
    assert hashes[0] == hashes[1]
    assert "model.safetensors" in hashes[0]


@pytest.mark.parametrize("name", LEARNED)
def test_native_keeps_one_width_and_all_heads_also_when_nothing_ever_froze(
    room: Classroom, tmp_path: Path, name: str
) -> None:
    run = Run(name, room, tmp_path, allocation="native", target_ratio=0.3)
    outcome = run.prune(max_steps=4, freeze_at=1.0)
    assert outcome.kept is not None
    assert {len(heads) for heads in outcome.kept.heads} == {run.shape.heads}
    assert len({len(neurons) for neurons in outcome.kept.neurons}) == 1
    assert 0.3 <= removed_ratio(run.shape, outcome.kept, "weights", 1.0) < 0.3 + 2 * 64 / 14336
