"""Which accelerators a job gets, and what becomes of the processes that train one job together."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from core.settings import Settings
from tests.support.data import write_dataset
from tests.support.models import save_tiny
from worker.channel import Order, order_message
from worker.devices import Devices, NoDevice, accelerators
from worker.environment import child_environment
from worker.process import ChildProcess


def devices(monkeypatch: pytest.MonkeyPatch, visible: str, **settings: object) -> Devices:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    return Devices(Settings(**{"worker_queue": "gpu"} | settings))  # type: ignore[arg-type]


def test_a_job_gets_as_many_devices_as_it_asks_for_of_its_slots_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lender = devices(monkeypatch, "0, 1,2,3,4", worker_slots=2)
    with lender.lend(1) as one, lender.lend(4) as other:
        assert (one, other) == ("0", "2,3")
    with lender.lend(1), lender.lend(2) as again:
        assert again == "0,1"
    assert lender.ids == ["0", "1", "2", "3"], "a device beyond equal shares is nobody's"


def test_a_cpu_worker_lends_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with devices(monkeypatch, "0,1", worker_queue="cpu").lend(2) as lent:
        assert lent == ""


def test_fewer_devices_than_slots_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoDevice, match="offers 1"):
        devices(monkeypatch, "0", worker_slots=2)


NVIDIA_SMI = """#!/bin/sh
echo "0, GPU-aaaa1111-0, 81559"
echo "1, GPU-bbbb2222-0, 23034"
"""


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, {"0": 79.6, "1": 22.5}),
        ("0", {"0": 79.6}),
        ("1,GPU-aaaa", {"1": 22.5, "GPU-aaaa": 79.6}),
        ("MIG-cccc", {"MIG-cccc": 0.0}),
        ("", {}),
    ],
)
def test_devices_are_known_with_their_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, visible: str | None, expected: dict[str, float]
) -> None:
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert accelerators() == pytest.approx(expected, abs=0.1)
    if expected:
        lender = Devices(Settings(worker_queue="gpu", worker_slots=1))
        assert lender.memory_gib == pytest.approx(min(expected.values()), abs=0.1)


@pytest.mark.parametrize("answer", ["exit 9", "echo no devices were found"])
def test_without_a_driver_that_answers_there_are_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{answer}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert accelerators() == {}


@pytest.mark.timeout(600)
def test_a_job_killed_with_9_leaves_no_process_that_trained_with_it(tmp_path: Path) -> None:
    spec = {
        "target_ratio": 0,
        "finetune": {"max_steps": 1_000_000, "batch_size": 8},
        "evaluate": {"latency": False},
        "device": "cpu",
        "devices": 2,
    }
    order = {
        "spec": spec,
        "model": str(save_tiny(tmp_path / "model")),
        "dataset": str(write_dataset(tmp_path / "data", train=32, validation=8)),
        "teacher": None,
        "out": str(tmp_path / "out"),
    }
    environment = child_environment(tmp_path / "scratch", threads=2)
    child = ChildProcess("worker.child", environment=environment, folder=tmp_path)
    try:
        child.send(order_message(Order(order)))
        steps = 0
        deadline = time.monotonic() + 500
        while not steps and time.monotonic() < deadline:
            messages = child.receive(1.0)
            assert not any("outcome" in message for message in messages), messages
            events = [message["event"] for message in messages]
            steps += sum(event["type"] == "progress" and "loss" in event["data"] for event in events)
        (peer,) = psutil.Process(child.pid).children()
        assert os.getpgid(peer.pid) == child.pid, "one signal to the job's group reaches the peer"
        os.kill(child.pid, signal.SIGKILL)  # not the group: the peer has to notice by itself
        psutil.wait_procs([peer], timeout=30)
        assert not peer.is_running() or peer.status() == psutil.STATUS_ZOMBIE
    finally:
        child.close()
