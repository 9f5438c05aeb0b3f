"""Two real processes against one, with the same batches: the same steps, but for rounding."""

import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pruning.errors import InvalidSpec
from pruning.training.group import ALONE, Group, GroupBroken, _buckets, join, leave
from pruning.training.shares import WHOLE, Shares, divided
from tests.support.data import questions, tagged_sentences
from tests.support.together import CASES, CPU, Trained, run_alone, run_together
from tests.support.training import Classroom, classroom, school

QUICK = ("labels", "answers", "features", "weights by leap", "l0")

Both = tuple[dict[str, Trained], dict[str, Trained]]


def both_ways(folder: Path, names: Sequence[str]) -> Both:
    """Cases by one process, and by two."""
    peer = subprocess.Popen([sys.executable, "-m", "tests.support.together", str(folder), *names])
    try:
        together = run_together(0, folder, names)
        assert peer.wait(60) == 0
    finally:
        peer.kill()
        peer.wait()
    return run_alone(folder, names), together


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return both_ways(tmp_path_factory.mktemp("together"), QUICK)


def assert_alike(alone: Trained, together: Trained) -> None:
    """The same masks, and weights that differ by rounding, which is little of the way that they went."""
    assert together.loss == pytest.approx(alone.loss, rel=1e-4)
    assert together.weights.keys() == alone.weights.keys()
    assert distance(together.weights, alone.weights) < 1e-3 * distance(alone.before, alone.weights)
    if alone.outcome is not None and together.outcome is not None:
        assert together.outcome.kept == alone.outcome.kept
        for parameter, mask in (alone.outcome.weight_masks or {}).items():
            assert torch.equal((together.outcome.weight_masks or {})[parameter], mask)


def distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Without biases that no answer depends on: Adam makes whole steps of what rounding leaves of their gradients."""
    names = [name for name in one if not name.endswith(("key.bias", "qa_outputs.bias"))]
    return math.hypot(*(float((one[name] - other[name]).norm()) for name in names))


@pytest.mark.parametrize("name", QUICK)
def test_two_processes_take_the_steps_of_one(quick: Both, name: str) -> None:
    alone, together = quick
    assert_alike(alone[name], together[name])


@pytest.mark.slow
def test_so_they_do_by_every_method(tmp_path: Path) -> None:
    names = [name for name in CASES if name not in QUICK]
    alone, together = both_ways(tmp_path, names)
    for name in names:
        assert_alike(alone[name], together[name])


def rooms(folder: Path) -> list[Classroom]:
    return [
        classroom(folder / "labels", rows=20),
        school(folder / "tags", "token-classification", tagged_sentences(20)),
        school(folder / "answers", "question-answering", questions(20, words=8, unanswered=3)),
    ]


def test_the_parts_of_a_batch_are_the_batch_and_their_shares_one(tmp_path: Path) -> None:
    for room in rooms(tmp_path):
        for size, count in ((1, 6), (2, 6), (3, 6), (3, 7), (4, 2)):
            items = [room.rows[index] for index in range(count)]
            whole = room.rows.collate(items)
            batches = [divided(room.rows, room.task, Group(rank, size))(items) for rank in range(size)]
            shares = [Shares.taken_from(batch) for batch in batches]
            for kind in zip(*shares, strict=True):
                assert sum(float(share) for share in kind) == pytest.approx(1)
            owners = [rank for rank in range(size) if shares[rank].answers > 0]
            assert len(owners) == min(size, count)
            for name, values in whole.items():
                rows = torch.cat([batches[rank][name] for rank in owners])
                assert sorted(rows.tolist()) == sorted(values.tolist())
            lengths = whole["attention_mask"].sum(1).double()
            for rank in owners:
                own = batches[rank]["attention_mask"].sum(1).double()
                assert float(shares[rank].tokens) == pytest.approx(float(own.sum() / lengths.sum()))
                assert float(shares[rank].pairs) == pytest.approx(float((own**2).sum() / (lengths**2).sum()))


def test_one_process_alone_has_whole_batches_and_keeps_its_random_numbers(tmp_path: Path) -> None:
    room = classroom(tmp_path, rows=20)
    batch = divided(room.rows, room.task, ALONE)([room.rows[0]])
    assert Shares.taken_from(batch) == WHOLE
    state = torch.random.get_rng_state()
    ALONE.seed(1, 2)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_random_numbers_are_a_function_of_seed_step_and_process() -> None:
    def drawn(rank: int, seed: int, step: int) -> float:
        Group(rank, 2).seed(seed, step)
        return float(torch.rand(()))

    places = [(rank, seed, step) for rank in (0, 1) for seed in (0, 2**31 - 1) for step in (0, 1, 1000)]
    assert len({drawn(*place) for place in places}) == len(places)
    assert drawn(1, 5, 7) == drawn(1, 5, 7)


def test_gradients_go_in_buckets_of_one_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pruning.training.group._BUCKET", 10)
    sizes = [4, 4, 4, 20, 1]
    gradients = [torch.zeros(size) for size in sizes] + [torch.zeros(2, dtype=torch.float64)]
    found = list(_buckets(gradients))
    assert [[gradient.numel() for gradient in bucket] for bucket in found] == [[4, 4], [4], [20], [1], [2]]
    assert sum(math.prod(g.shape) for bucket in found for g in bucket) == sum(sizes) + 2


def test_what_is_known_to_be_broken_is_not_used() -> None:
    with pytest.raises(GroupBroken):
        Group(0, 2, lambda: False).check()
    Group(0, 2).check()


def test_a_process_that_trains_with_others_already_is_refused(tmp_path: Path) -> None:
    join(0, 1, CPU, tmp_path)
    try:
        with pytest.raises(InvalidSpec, match="already") as caught:
            join(0, 2, CPU, tmp_path)
        assert caught.value.param == "/devices"
    finally:
        leave(CPU)
