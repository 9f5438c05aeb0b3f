"""A child process: what it says, how it ends, and that nothing of it survives."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from worker import process
from worker.channel import BrokenChannel, Order, Outcome, order_message, read_outcome, stop_message
from worker.environment import child_environment
from worker.process import ChildProcess

ENTRY = "tests.support.slow_engine"


def parameters(folder: Path, **settings: Any) -> dict[str, Any]:
    settings = {"name": "one", "steps": 3, "step_seconds": 0.01, "trace": str(folder / "trace"), **settings}
    return {
        "spec": {"settings": settings},
        "model": "m",
        "dataset": "d",
        "teacher": None,
        "out": str(folder / "out"),
    }


def spawn(folder: Path, *, memory_bytes: int | None = None, **settings: Any) -> ChildProcess:
    child = ChildProcess(ENTRY, environment=child_environment(folder, threads=1), folder=folder)
    child.send(order_message(Order(parameters(folder, **settings), memory_bytes)))
    return child


def listen(child: ChildProcess, seconds: float = 20) -> list[dict[str, Any]]:
    """All that the child says until it is gone."""
    messages: list[dict[str, Any]] = []
    deadline = time.monotonic() + seconds
    while not child.exited():
        messages += child.receive(0.05)
        assert time.monotonic() < deadline
    return messages + child.receive(0)


def wait_for(path: Path, seconds: float = 20) -> str:
    deadline = time.monotonic() + seconds
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, path
        time.sleep(0.01)
    return path.read_text()


def test_events_come_in_order_and_the_outcome_last(tmp_path: Path) -> None:
    child = spawn(tmp_path)
    messages = listen(child)
    assert child.close() == 0
    assert [m["event"]["type"] for m in messages[:-1]] == ["phase", *["progress", "metric"] * 3]
    outcome = read_outcome(messages[-1])
    assert outcome.status == "done"
    assert outcome.result["kind"] == "shrunk"


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (
            "user_error",
            Outcome("failed", None, "invalid_data", "user", "no label column Add one.", "/dataset"),
        ),
        ("out_of_memory", Outcome("failed", None, "out_of_memory", "capacity", "2 GiB were not there")),
        (
            "bug",
            Outcome(
                "failed",
                None,
                "internal_error",
                "bug",
                "Unexpected RuntimeError: something nobody thought of",
            ),
        ),
    ],
)
def test_an_error_arrives_classified(tmp_path: Path, mode: str, expected: Outcome) -> None:
    child = spawn(tmp_path, mode=mode)
    assert read_outcome(listen(child)[-1]) == expected
    assert child.close() == 0
    assert ("Traceback" in child.stderr_tail) == (mode == "bug")


@pytest.mark.parametrize(
    ("mode", "code"), [("killed", -signal.SIGKILL), ("crash", -signal.SIGSEGV), ("exit", 7)]
)
def test_a_crash_leaves_an_exit_code_and_no_outcome(tmp_path: Path, mode: str, code: int) -> None:
    child = spawn(tmp_path, mode=mode)
    assert not any("outcome" in message for message in listen(child))
    assert child.close() == code
    if mode == "exit":
        assert child.stderr_tail.endswith("last words")


def test_garbage_on_the_pipe_is_named(tmp_path: Path) -> None:
    child = spawn(tmp_path, mode="garbage")
    with pytest.raises(BrokenChannel, match="not JSON"):
        listen(child)
    assert child.close() == -signal.SIGKILL


@pytest.mark.parametrize("reason", ["cancel", "preempt"])
def test_a_polite_child_stops_and_only_a_preempted_one_keeps_its_step(tmp_path: Path, reason: str) -> None:
    child = spawn(tmp_path, steps=1000, step_seconds=0.05)
    wait_for(tmp_path / "trace")
    child.send(stop_message("cancel" if reason == "cancel" else "preempt"))
    assert read_outcome(listen(child)[-1]) == Outcome("stopped")
    assert child.close() == 0
    begun = len((tmp_path / "trace").read_text().splitlines())
    checkpoint = tmp_path / "out/work/checkpoint.json"
    kept = json.loads(checkpoint.read_text())["done"] if checkpoint.exists() else 0
    assert kept == (begun if reason == "preempt" else begun - 1)


def test_a_child_that_is_closed_has_exited_and_cannot_be_killed_again(tmp_path: Path) -> None:
    child = spawn(tmp_path)
    listen(child)
    assert child.close() == 0
    child.kill()
    assert child.exited()


def test_kill_reaches_what_the_child_started(tmp_path: Path) -> None:
    child = spawn(tmp_path, mode="grandchild", steps=1000)
    grandchild = int(wait_for(tmp_path / "out/work/grandchild"))
    assert child.close() == -signal.SIGKILL
    assert gone(grandchild)


def test_a_process_without_its_pipes_is_none_of_ours() -> None:
    with (
        subprocess.Popen(["true"], stdin=subprocess.PIPE) as other,
        pytest.raises(ValueError, match="without its three pipes"),
    ):
        process._pipes(other)


def test_the_memory_limit_is_the_childs_own(tmp_path: Path) -> None:
    child = spawn(tmp_path, memory_bytes=2**29, mode="hungry")
    outcome = read_outcome(listen(child)[-1])
    child.close()
    assert (outcome.code, outcome.error_class) == ("out_of_memory", "capacity")


def test_the_environment_holds_no_secret_and_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRUNERY_DATABASE_URL", "postgresql://user:secret@host/db")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("HF_TOKEN", "secret")
    environment = child_environment(tmp_path, threads=3)
    assert "secret" not in str(environment)
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert Path(environment["TMPDIR"]).is_relative_to(tmp_path)


def test_no_child_outlives_a_worker_killed_with_9(tmp_path: Path) -> None:
    """The parent is a real process that spawns in a thread, as a worker does."""
    program = textwrap.dedent(
        f"""
        import sys, threading, time
        from pathlib import Path
        from tests.worker.test_process import spawn
        def supervise():
            child = spawn(Path({str(tmp_path)!r}), mode="deaf", steps=10000, step_seconds=0.02)
            print(child.pid, flush=True)
            while True:
                child.receive(0.1)
        threading.Thread(target=supervise).start()
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_for(tmp_path / "trace")
    parent.kill()
    killed = time.monotonic()
    parent.wait()
    parent.stdout.close()
    assert gone(child)
    assert time.monotonic() - killed < 1


def gone(pid: int, seconds: float = 2) -> bool:
    """Whether the process disappears (or is a zombie waiting for its reaper) in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return False
