"""Two real processes that train one job: what becomes of them when somebody stops, and when one is killed."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from pruning.errors import Canceled, InvalidSpec, OutOfMemory, PeerLost, PruningError
from pruning.events import Event, StopReason
from pruning.options import Finetune
from pruning.planning.latency import LatencyPoint, LatencyTable
from pruning.spec import Evaluation, PruneSpec
from pruning.steps.crew import LEFT_ALONE, OUT_OF_MEMORY, Crew, Inputs, _environment
from pruning.steps.job import TABLE, Job, deterministic, json_of, open_job, quiet
from pruning.steps.progress import Progress
from pruning.steps.stages import finetune, prune_model
from pruning.training.group import ALONE, GroupBroken
from tests.support.data import write_dataset
from tests.support.models import save_tiny

SPEC = PruneSpec(
    target_ratio=0.5,
    method="leap",
    settings={"max_steps": 10_000, "batch_size": 8},
    finetune=Finetune(max_steps=8, batch_size=8, learning_rate=1e-3),
    recover=False,
    distill=False,
    max_length=32,
    evaluate=Evaluation(latency=False),
    device="cpu",
    devices=2,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model with dropout, so that training needs random numbers, and a dataset."""
    folder = tmp_path_factory.mktemp("inputs")
    model = save_tiny(folder / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.1}))
    return model, write_dataset(folder / "data", train=42, validation=16)


class Person:
    """Listens to a job, and asks it to stop after `patience` steps of its first training."""

    def __init__(self, patience: int | None = None) -> None:
        self.patience = patience
        self.training = False
        self.steps = 0
        self.kills = False

    def events(self, event: Event) -> None:
        if "step" in event.data and event.type == "progress":
            self.training = True
            if self.kills:
                for peer in peers():
                    peer.kill()

    def should_stop(self) -> StopReason | None:
        self.steps += self.training
        return "preempt" if self.training and self.steps == self.patience else None


def peers() -> list[psutil.Process]:
    """The peers of this process that run."""
    children = psutil.Process().children()
    return [child for child in children if "pruning.steps.peer" in child.cmdline()]


@contextmanager
def work(
    folders: tuple[Path, Path], out: Path, person: Person, spec: PruneSpec = SPEC
) -> Iterator[tuple[Job, Crew]]:
    """A job and its crew, as `prune` has them."""
    progress = Progress(person.events, person.should_stop)
    with quiet():
        job = open_job(spec, *folders, out, progress)
        progress.lay_out({"finetune": 1, "prune": 1})
        inputs = Inputs(spec, *folders, out, None)
        with deterministic(0, job.device), Crew(inputs, job.device, progress) as crew:
            yield job, crew


def tuned(job: Job) -> dict[str, torch.Tensor]:
    return dict(load_file(job.steps.path("finetune") / "model" / "model.safetensors"))


class Story:
    """One crew that fine-tuned undisturbed, and whose peer was then killed while LEAP ran."""

    def __init__(self, folders: tuple[Path, Path], out: Path) -> None:
        person = Person()
        threads = torch.get_num_threads()
        with work(folders, out, person) as (job, crew):
            finetune(job, crew)
            self.weights = tuned(job)
            self.peers = peers()
            person.kills = True
            with pytest.raises(PruningError) as caught:
                prune_model(job, crew)
            self.error = caught.value
        self.left = peers()
        assert torch.get_num_threads() == threads


@pytest.fixture(scope="module")
def story(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Story:
    return Story(folders, tmp_path_factory.mktemp("out"))


@pytest.mark.timeout(600)
def test_a_killed_peer_ends_the_training_with_an_error_that_is_tried_again(story: Story) -> None:
    assert len(story.peers) == 1
    assert story.left == []
    assert not story.peers[0].is_running()
    assert isinstance(story.error, OutOfMemory)
    assert "device 1 was killed" in story.error.message
    assert not torch.distributed.is_initialized()


@pytest.mark.timeout(600)
def test_a_preempted_pair_goes_on_bit_for_bit(
    story: Story, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    with work(folders, tmp_path, Person(patience=5)) as (job, crew), pytest.raises(Canceled):
        finetune(job, crew)
    assert peers() == []
    with work(folders, tmp_path, Person()) as (job, crew):
        finetune(job, crew)
        result = job.steps.load("finetune")
    assert (result["steps"], result["resumed_from"]) == (8, 5)
    found = tuned(job)
    assert found.keys() == story.weights.keys()
    assert all(torch.equal(found[name], weight) for name, weight in story.weights.items())


def test_every_process_of_a_job_sees_the_table_that_one_measured(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    spec = SPEC.model_copy(update={"target_measure": "latency"})
    table = LatencyTable(
        batch_size=1,
        sequence_length=128,
        rounds=3,
        threads=1,
        dense_ms=10.0,
        heads=(LatencyPoint(count=1, ms=7.0),),
        neurons=(LatencyPoint(count=8, ms=6.0),),
    )
    with work(folders, tmp_path, Person(), spec) as (job, _):
        assert job.table is None
        job.steps.save(TABLE, json_of(table))
        assert job.table == table
    with work(folders, tmp_path, Person(), spec) as (other, _):
        assert other.table == table


def test_one_device_starts_no_process_and_forms_no_group(folders: tuple[Path, Path], tmp_path: Path) -> None:
    alone = SPEC.model_copy(update={"devices": 1})
    with work(folders, tmp_path, Person(), alone) as (_, crew), crew.training("finetune") as group:
        assert group is ALONE
        assert peers() == []
        assert not torch.distributed.is_initialized()


def test_more_devices_than_the_machine_has_are_refused(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    many = SPEC.model_copy(update={"devices": 4})
    with pytest.raises(InvalidSpec, match="asks for 4 devices, and 3 cores are there") as caught:
        open_job(many, *folders, tmp_path, Progress(lambda event: None, lambda: None))
    assert caught.value.param == "/devices"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    many = SPEC.model_copy(update={"device": "cuda"})
    with pytest.raises(InvalidSpec, match="asks for 2 devices, and 1 CUDA devices are there"):
        open_job(many, *folders, tmp_path, Progress(lambda event: None, lambda: None))


SEVERED = GroupBroken("gone")


@pytest.mark.parametrize(
    ("ends", "error", "expected", "words"),
    [
        (["kill -KILL $$"], SEVERED, OutOfMemory, "device 1 was killed"),
        (["kill -KILL $$"], RuntimeError("ours"), OutOfMemory, "device 1 was killed"),
        ([f"exit {LEFT_ALONE}", f"exit {OUT_OF_MEMORY}"], SEVERED, OutOfMemory, "device 2 found"),
        ([f"exit {LEFT_ALONE}", "kill -BUS $$"], SEVERED, PeerLost, "device 2 .* signal SIGBUS"),
        (["exit 1"], SEVERED, PeerLost, "device 1 .* exit code 1"),
        ([f"exit {LEFT_ALONE}"], SEVERED, PeerLost, "broke off"),
        (["exit 1"], RuntimeError("ours"), None, ""),
    ],
)
def test_the_error_names_the_process_that_ended_first(
    folders: tuple[Path, Path],
    tmp_path: Path,
    ends: list[str],
    error: Exception,
    expected: type[PruningError] | None,
    words: str,
) -> None:
    inputs = Inputs(SPEC, *folders, tmp_path, None)
    crew = Crew(inputs, torch.device("cpu"), Progress(lambda event: None, lambda: None))
    for end in ends:
        process = subprocess.Popen(["/bin/sh", "-c", end])
        process.wait()
        crew._peers.append(process)
    if expected is None:
        assert crew._cause(error) is None
        return
    with pytest.raises(expected, match=words):
        raise crew._cause(error) or AssertionError


@pytest.mark.parametrize(
    ("visible", "first", "last"), [("4,5,6,7", "4,5,6", "6,4,5"), (None, "0,1,2", "2,0,1")]
)
def test_every_peer_sees_its_own_gpu_first(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, first: str, last: str
) -> None:
    """The Trainer takes the first one; the others stay visible, so that NCCL can copy between them directly."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    for rank, expected in ((0, first), (2, last)):
        assert _environment(rank, 3, torch.device("cuda"))["CUDA_VISIBLE_DEVICES"] == expected
    assert _environment(1, 3, torch.device("cpu")).get("CUDA_VISIBLE_DEVICES") == visible


def test_inputs_arrive_as_they_were_sent(folders: tuple[Path, Path], tmp_path: Path) -> None:
    for teacher in (None, tmp_path / "teacher"):
        inputs = Inputs(SPEC, *folders, tmp_path, teacher)
        assert Inputs.from_json(json.loads(json.dumps(inputs.to_json()))) == inputs


def test_a_peer_is_deaf_to_polite_signals_and_ends_with_its_stdin(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pruning.steps.peer", "1", str(tmp_path)]
    peer = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert peer.stdin is not None
    try:
        deadline = time.monotonic() + 60
        while not _ignores(peer.pid, signal.SIGTERM) and time.monotonic() < deadline:
            time.sleep(0.05)
        peer.send_signal(signal.SIGTERM)
        peer.send_signal(signal.SIGINT)
        time.sleep(0.3)
        assert peer.poll() is None
        peer.stdin.close()
        assert peer.wait(60) == 0
    finally:
        peer.kill()
        peer.wait()


def _ignores(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    ignored = next(line for line in status.splitlines() if line.startswith("SigIgn"))
    return bool(int(ignored.split()[1], 16) >> (number - 1) & 1)
