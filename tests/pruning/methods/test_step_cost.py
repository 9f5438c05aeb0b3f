"""What a step of learning masks must not do: wait for the device once per matrix, or sort all scores."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pruning.methods import METHODS, create
from pruning.methods._learned import LearnedMethod
from tests.support.learning import LEARNED, STEPS, Run
from tests.support.models import tiny_inputs
from tests.support.training import Classroom, classroom

WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2"}
"""Operations whose result, or its shape, the host must know before it goes on."""

SORTS = {"sort", "argsort", "topk", "msort"}
LEARNING = range(2, 7)
"""Steps of the run in which masks learn: LEAP refreshes them in one."""


class Counting(TorchDispatchMode):
    """Counts waits, and notes how much every sort sorts."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0
        self.sorted: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.waits += name in WAITS
        if name in SORTS:
            self.sorted.append(args[0].numel())
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Classroom]:
    return {depth: classroom(tmp_path_factory.mktemp("room"), rows=4, layers=depth) for depth in (1, 3)}


def _counted(
    name: str, room: Classroom, work: Path, granularity: str, monkeypatch: pytest.MonkeyPatch
) -> Counting:
    """What the steps in which masks learn do beside the model's own step."""
    run, counting = Run(name, room, work, granularity=granularity, target_measure="weights"), Counting()
    context = run.context()
    method = create(name, {"max_steps": STEPS, "freeze_at": 0.9})
    assert isinstance(method, LearnedMethod)
    learner = method.learner(context, context.groups(), STEPS)
    learner.masks.attach(run.model)
    inputs, tolist = tiny_inputs(run.model.train()), torch.Tensor.tolist

    def listening(tensor: torch.Tensor) -> Any:
        counting.waits += 1
        return tolist(tensor)

    with monkeypatch.context() as patched:
        patched.setattr(torch.Tensor, "tolist", listening)
        for step in range(LEARNING.stop):
            if step == LEARNING.start:
                counting.waits, counting.sorted = 0, []
            with counting:
                learner.advance(step, STEPS)
            loss = run.model(**inputs).logits.square().sum()
            with counting:
                (loss + learner.penalty()).backward()
                learner.observe()
            with torch.no_grad():
                for scores in learner.masks.scores():
                    scores.sub_(0.1 * scores.grad)
            run.model.zero_grad()
    return counting


@pytest.mark.parametrize("granularity", ["unstructured", "structured"])
@pytest.mark.parametrize("name", LEARNED)
def test_learning_waits_no_more_for_more_matrices_and_sorts_no_weights(
    rooms: dict[int, Classroom], tmp_path: Path, name: str, granularity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only units that differ in cost are ever sorted, such as heads beside neurons: they are few."""
    if granularity not in METHODS[name].granularities:
        granularity = "neuron"
    few, many = (_counted(name, rooms[depth], tmp_path, granularity, monkeypatch) for depth in (1, 3))
    assert few.waits == many.waits
    assert few.waits <= 10 * len(LEARNING)
    if granularity == "structured":
        assert all(size <= 3 * (4 + 48) for size in many.sorted)
    else:
        assert many.sorted == []
