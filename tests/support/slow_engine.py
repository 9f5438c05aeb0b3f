"""A stage that stands in for the engine: it works in short steps, keeps checkpoints, misbehaves when asked to.

Every step that is begun is a line of the file `trace`, so a test can count what was done twice. What it leaves
in `out/model` depends on the spec alone.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pruning.errors import Canceled, InvalidData, OutOfMemory
from pruning.events import Event, Events, ShouldStop
from worker.stage import run_stage


def slow_stage(parameters: Mapping[str, Any], events: Events, should_stop: ShouldStop) -> dict[str, Any]:
    """Do `steps` steps of `step_seconds`, then write a model; `mode` names a way to misbehave instead."""
    settings = parameters["spec"]["settings"]
    out = Path(parameters["out"])
    (out / "work").mkdir(parents=True, exist_ok=True)
    misbehave(settings.get("mode", ""), out)
    events(Event("phase", {"phase": "pruning"}))
    steps, checkpoint = settings["steps"], out / "work" / "checkpoint.json"
    done = json.loads(checkpoint.read_text())["done"] if checkpoint.exists() else 0
    for step in range(done, steps):
        trace(settings, parameters, step)
        time.sleep(settings["step_seconds"])
        reason = should_stop() if settings.get("mode") != "deaf" else None
        if reason == "cancel":
            raise Canceled("asked to stop")
        write_atomically(checkpoint, json.dumps({"done": step + 1}))
        if settings.get("mode") != "silent":
            events(
                Event(
                    "progress",
                    {"phase": "pruning", "fraction": (step + 1) / steps, "message": f"step {step + 1}"},
                )
            )
        events(Event("metric", {"name": "loss", "value": 1.0 / (step + 1), "step": step}))
        if reason == "preempt":
            raise Canceled("saved a checkpoint")
    (out / "model").mkdir(exist_ok=True)
    write_atomically(out / "model" / "config.json", json.dumps({"made_by": settings["name"]}))
    write_atomically(out / "model" / "weights.bin", expected_weights(settings))
    report = {"kind": "shrunk", "weights": hashlib.sha256(expected_weights(settings).encode()).hexdigest()}
    write_atomically(out / "report.json", json.dumps(report))
    return report


def expected_weights(settings: Mapping[str, Any]) -> str:
    """The only right content of a finished job's model."""
    return f"weights of {settings['name']}, {settings['steps']} steps\n" * 50


def misbehave(mode: str, out: Path) -> None:
    """The ways in which a child can go wrong before its first step."""
    if mode == "user_error":
        raise InvalidData("no label column", param="/dataset", remedy="Add one.")
    if mode == "out_of_memory":
        raise OutOfMemory("2 GiB were not there")
    if mode == "bug":
        raise RuntimeError("something nobody thought of")
    if mode == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if mode == "hungry":
        bytearray(2**30)
    if mode == "exit":
        sys.stderr.write("last words\n")
        os._exit(7)
    if mode == "garbage":
        os.write(_upward_descriptor(), b"this is no message\n")
        time.sleep(60)
    if mode == "grandchild":
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        (out / "work" / "grandchild").write_text(str(helper.pid))
    if mode in ("deaf", "hang"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "hang":
        time.sleep(300)


def trace(settings: Mapping[str, Any], parameters: Mapping[str, Any], step: int) -> None:
    """Append one line; O_APPEND keeps the lines of several processes whole."""
    descriptor = os.open(settings["trace"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{settings['name']} {parameters['out']} {step} {os.getpid()}\n".encode())
    os.close(descriptor)


def write_atomically(path: Path, text: str) -> None:
    """Write beside the file, then rename."""
    beside = path.with_suffix(".tmp")
    beside.write_text(text)
    beside.replace(path)


def _upward_descriptor() -> int:
    """The private copy of the pipe to the worker: the lowest pipe beyond the three standard ones."""
    for descriptor in range(3, 64):
        try:
            if str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith("pipe:"):
                return descriptor
        except OSError:
            continue
    raise RuntimeError("no pipe to the worker")


if __name__ == "__main__":
    sys.exit(run_stage(slow_stage))
