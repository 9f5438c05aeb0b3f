"""The inside of a child process: how it listens, what it may say, and when it leaves."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pruning.events import Event
from tests.worker.test_process import ENTRY, listen, spawn, wait_for
from worker import stage, tether
from worker.channel import Outcome, read_outcome
from worker.environment import child_environment


def run(folder: Path, parent: int) -> int:
    """Run a child to its end that gets no order; returns its exit code."""
    command = [sys.executable, "-P", "-m", "worker.tether", str(parent), ENTRY]
    environment = child_environment(folder, threads=1)
    return subprocess.run(command, input=b"", env=environment, cwd=folder, timeout=60).returncode


def test_a_child_without_an_order_leaves(tmp_path: Path) -> None:
    assert run(tmp_path, os.getpid()) == 1


def test_a_child_whose_parent_is_gone_already_ends_itself(tmp_path: Path) -> None:
    assert run(tmp_path, os.getppid()) == -signal.SIGKILL


@pytest.mark.parametrize(("parent", "ended"), [(os.getppid(), []), (0, [(os.getpid(), signal.SIGKILL)])])
def test_without_prctl_the_parent_is_still_looked_for(
    monkeypatch: pytest.MonkeyPatch, parent: int, ended: list[tuple[int, int]]
) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(os, "getppid", lambda: os.getpid() + 1)
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    tether.die_with_parent(os.getppid() if parent else 0)
    assert killed == ended


def test_sigterm_is_a_wish_for_a_checkpoint(tmp_path: Path) -> None:
    child = spawn(tmp_path, steps=1000, step_seconds=0.05)
    wait_for(tmp_path / "trace")
    os.kill(child.pid, signal.SIGTERM)
    assert read_outcome(listen(child)[-1]) == Outcome("stopped")
    assert child.close() == 0
    begun = len((tmp_path / "trace").read_text().splitlines())
    assert json.loads((tmp_path / "out/work/checkpoint.json").read_text())["done"] == begun


def test_the_end_of_the_pipe_is_the_end_of_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: killed.append((group, number)))
    downward = stage._Downward(io.BytesIO(b'{"stop": "cancel"}\n{"stop": "later"}\n'))
    deadline = time.monotonic() + 10
    while not killed:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert killed == [(0, signal.SIGKILL)]
    assert downward.should_stop() == "cancel", "a wish that nobody knows changes nothing"
    downward.on_sigterm(signal.SIGTERM, None)
    assert downward.should_stop() == "cancel"


def test_numbers_that_json_cannot_hold_go_up_as_null() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as below:
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            stage._Upward(pipe).event(Event("metric", {"name": "loss", "value": float("nan"), "all": [1.5]}))
        data = json.loads(below.read())["event"]["data"]
    assert data == {"name": "loss", "value": None, "all": [1.5]}
