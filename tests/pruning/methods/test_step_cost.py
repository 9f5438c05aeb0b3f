"""What a step of learning masks must not do: wait for the device once per matrix, or sort all scores."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pruning.methods import METHODS
from pruning.spec import StopReason
from tests.support.learning import LEARNED, Run
from tests.support.training import Classroom, classroom

WAITS = {
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "equal",
    "unique",
    "_unique2",
    "repeat_interleave",
}
"""Operations whose result, or its shape, the host must know before it goes on."""

SORTS = {"sort", "argsort", "topk", "msort"}
STEPS = range(2, 7)
"""Steps in which masks learn, of a run of 12: LEAP refreshes its masks in one of them."""


class Counting(TorchDispatchMode):
    """Counts waits, and notes how much every sort sorts."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = 0
        self.sorted: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        # How often a mask is repeated is a number, which the host knows.
        self.waits += name in WAITS and func is not torch.ops.aten.repeat_interleave.self_int
        if name in SORTS:
            self.sorted.append(args[0].numel())
        return func(*args, **(kwargs or {}))


class Counted(Run):
    """A run that notes after every step what was counted so far."""

    counting: Counting
    waits: list[int]
    sorts: list[list[int]]

    def _should_stop(self) -> StopReason | None:
        self.waits.append(self.counting.waits)
        self.sorts.append(list(self.counting.sorted))
        return None


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Classroom]:
    return {depth: classroom(tmp_path_factory.mktemp("room"), layers=depth) for depth in (1, 3)}


def _counted(
    name: str, room: Classroom, work: Path, granularity: str, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, list[int]]:
    """How often the learning steps waited, and what they sorted."""
    run = Counted(name, room, work, granularity=granularity, target_measure="weights")
    run.counting, run.waits, run.sorts = Counting(), [], []
    tolist = torch.Tensor.tolist

    def listening(tensor: torch.Tensor) -> Any:
        run.counting.waits += 1
        return tolist(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", listening)
    with run.counting:
        run.prune()
    monkeypatch.undo()
    first, last = STEPS.start - 1, STEPS.stop - 1
    return run.waits[last] - run.waits[first], run.sorts[last][len(run.sorts[first]) :]


@pytest.mark.parametrize("granularity", ["unstructured", "structured"])
@pytest.mark.parametrize("name", LEARNED)
def test_learning_waits_no_more_for_more_matrices_and_sorts_no_weights(
    rooms: dict[int, Classroom], tmp_path: Path, name: str, granularity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only units of different cost are ever sorted, which are heads, neurons, rows and blocks beside them."""
    if granularity not in METHODS[name].granularities:
        granularity = "neuron"
    with monkeypatch.context() as patched:
        patched.setattr("pruning.training.watch._SECONDS_BETWEEN_EVENTS", math.inf)
        few, _ = _counted(name, rooms[1], tmp_path / "1", granularity, monkeypatch)
        many, sizes = _counted(name, rooms[3], tmp_path / "3", granularity, monkeypatch)
    assert few == many
    assert few <= 12 * len(STEPS)
    if granularity == "structured":
        assert all(size <= 3 * (4 + 48) for size in sizes)
    else:
        assert sizes == []
