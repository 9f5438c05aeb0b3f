"""LEAP in a real training run: what the thresholds do, and that what they chose is what is left."""

from pathlib import Path
from typing import Any

import pytest
import torch

from pruning.planning.costs import head_cost, neuron_cost, removed_ratio, total_cost
from tests.support.learning import STEPS, Run
from tests.support.models import tiny_inputs
from tests.support.training import Classroom, classroom


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Classroom:
    return classroom(tmp_path_factory.mktemp("room"))


@pytest.mark.parametrize("measure", ["weights", "flops"])
def test_structured_delivers_the_ratio_and_bakes(room: Classroom, tmp_path: Path, measure: Any) -> None:
    run = Run("leap", room, tmp_path, target_measure=measure)
    names = set(run.model.state_dict())
    outcome = run.prune()
    assert outcome.kept is not None
    length = room.rows.mean_length
    removed = removed_ratio(run.shape, outcome.kept, measure, length)
    cheapest = min(head_cost(run.shape, measure, length), neuron_cost(run.shape, measure, length))
    assert 0.6 - 1e-9 <= removed < 0.6 + cheapest / total_cost(run.shape, measure, length)
    assert set(run.model.state_dict()) == names
    assert outcome.details["steps"] == STEPS
    progress = [event.data["remaining"] for event in run.events if "remaining" in event.data]
    assert progress[0] > 0.9
    assert progress[-1] == pytest.approx(0.4, abs=0.05)


def test_single_weights_are_counted_exactly_under_the_released_rule(room: Classroom, tmp_path: Path) -> None:
    run = Run("leap", room, tmp_path, granularity="unstructured")
    outcome = run.prune(chain_rule=False)
    assert outcome.weight_masks is not None
    total = sum(mask.numel() for mask in outcome.weight_masks.values())
    dropped = sum(int((~mask).sum()) for mask in outcome.weight_masks.values())
    assert 0.6 * total <= dropped < 0.6 * total + 1
    for name, mask in outcome.weight_masks.items():
        assert torch.equal(run.model.get_parameter(name) == 0, ~mask)


def test_dropped_units_do_not_matter_to_the_trained_model(room: Classroom, tmp_path: Path) -> None:
    run = Run("leap", room, tmp_path)
    outcome = run.prune()
    assert outcome.kept is not None
    inputs = tiny_inputs(run.model)
    before = run.model(**inputs).logits
    layer = run.model.base_model.encoder.layer[0]
    dropped = [index for index in range(run.shape.ffn) if index not in outcome.kept.neurons[0]]
    with torch.no_grad():
        layer.intermediate.dense.weight[dropped] = 5.0
    torch.testing.assert_close(run.model(**inputs).logits, before)
