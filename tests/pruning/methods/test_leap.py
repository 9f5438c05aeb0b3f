"""LEAP in a real training run: exact ratio, exact resume, and what it learned is what is left."""

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import PreTrainedModel

from pruning.errors import Canceled
from pruning.methods import Context, Outcome, create
from pruning.planning.costs import ModelShape, head_cost, neuron_cost, removed_ratio, total_cost
from pruning.spec import Event, PruneSpec, StopReason
from tests.support.models import tiny_inputs
from tests.support.training import Classroom, classroom, same_weights

STEPS = 12
SETTINGS = {"max_steps": STEPS, "batch_size": 8, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Classroom:
    return classroom(tmp_path_factory.mktemp("room"))


class Run:
    """One run of LEAP; `stop_after` asks it to be preempted after so many steps."""

    def __init__(self, room: Classroom, work: Path, *, stop_after: int | None = None, **request: Any) -> None:
        self.room = room
        self.work = work
        self.stop_after = stop_after
        self.spec = PruneSpec(method="leap", **{"target_ratio": 0.6, "distill": False} | request)
        self.model: PreTrainedModel = room.model()
        self.shape = ModelShape.from_config(self.model.config.to_dict())
        self.events: list[Event] = []
        self._asked = 0

    def prune(self, **settings: Any) -> Outcome:
        context = Context(
            spec=self.spec,
            plan=cast(Any, None),
            shape=self.shape,
            model=self.model,
            task=self.room.task,
            train=self.room.rows,
            teacher_dir=None,
            device=torch.device("cpu"),
            work=self.work,
            events=self.events.append,
            should_stop=self._should_stop,
            span=(0.0, 1.0),
            mean_length=self.room.rows.mean_length,
        )
        return create("leap", SETTINGS | settings).prune(context)

    def _should_stop(self) -> StopReason | None:
        self._asked += 1
        return "preempt" if self._asked == self.stop_after else None


@pytest.mark.parametrize("measure", ["weights", "flops"])
def test_structured_delivers_the_ratio_and_bakes(room: Classroom, tmp_path: Path, measure: Any) -> None:
    run = Run(room, tmp_path, target_measure=measure)
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


@pytest.mark.parametrize(("granularity", "unit"), [("unstructured", 1), ("block:4x8", 32)])
def test_weights_removed_are_exact(room: Classroom, tmp_path: Path, granularity: str, unit: int) -> None:
    run = Run(room, tmp_path, granularity=granularity)
    outcome = run.prune(chain_rule=False)
    assert outcome.weight_masks is not None
    total = sum(mask.numel() for mask in outcome.weight_masks.values())
    dropped = sum(int((~mask).sum()) for mask in outcome.weight_masks.values())
    assert 0.6 * total <= dropped < 0.6 * total + unit
    for name, mask in outcome.weight_masks.items():
        assert torch.equal(run.model.get_parameter(name) == 0, ~mask)


def test_native_keeps_one_width_and_all_heads(room: Classroom, tmp_path: Path) -> None:
    run = Run(room, tmp_path, allocation="native", target_ratio=0.3)
    outcome = run.prune()
    assert outcome.kept is not None
    assert {len(heads) for heads in outcome.kept.heads} == {run.shape.heads}
    assert len({len(neurons) for neurons in outcome.kept.neurons}) == 1
    assert removed_ratio(run.shape, outcome.kept, "weights", 1.0) >= 0.3


@pytest.mark.parametrize("stop_after", [2, 3, 5, 10])
def test_a_killed_run_resumes_bit_for_bit(room: Classroom, tmp_path: Path, stop_after: int) -> None:
    """Killed as sensitivities are measured, as pruning begins, as masks are learned, and when they are frozen."""
    whole = Run(room, tmp_path / "whole", granularity="block:4x8")
    expected = whole.prune(begin_at=0.3)
    with pytest.raises(Canceled):
        Run(room, tmp_path / "killed", granularity="block:4x8", stop_after=stop_after).prune(begin_at=0.3)
    resumed = Run(room, tmp_path / "killed", granularity="block:4x8")
    outcome = resumed.prune(begin_at=0.3)
    assert same_weights(whole.model, resumed.model)
    assert expected.weight_masks is not None
    assert outcome.weight_masks is not None
    assert all(torch.equal(mask, outcome.weight_masks[name]) for name, mask in expected.weight_masks.items())


def test_dropped_units_do_not_matter_to_the_trained_model(room: Classroom, tmp_path: Path) -> None:
    run = Run(room, tmp_path)
    outcome = run.prune()
    assert outcome.kept is not None
    inputs = tiny_inputs(run.model)
    before = run.model(**inputs).logits
    layer = run.model.base_model.encoder.layer[0]
    dropped = [index for index in range(run.shape.ffn) if index not in outcome.kept.neurons[0]]
    with torch.no_grad():
        layer.intermediate.dense.weight[dropped] = 5.0
    torch.testing.assert_close(run.model(**inputs).logits, before)
