"""The inside of a child process: confine itself, read one order, do one stage of a job, report how it ended.

Run by `worker.process.ChildProcess` through `worker.tether`. A module that is a stage ends with
`sys.exit(run_stage(its_function))`.
"""

import logging
import math
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import FrameType
from typing import IO, Any

from pruning.events import Event, Events, ShouldStop, StopReason
from worker.channel import Order, Outcome, decode, encode, outcome_message, read_order
from worker.failures import classify
from worker.narration import Narrator

Stage = Callable[[Mapping[str, Any], Events, ShouldStop], Any]
"""What a stage module offers: (parameters, events, should_stop) -> a JSON result."""


def run_stage(stage: Stage) -> int:
    """Run one stage to its end; returns the exit code, 0 when the end was reported."""
    upward = _take_stdout()
    _log_to_stderr()
    # Not sys.stdin: the interpreter waits for its lock on the way out, and a thread sits in a read of it.
    pipe = open(sys.stdin.fileno(), "rb", closefd=False)  # noqa: SIM115 - a descriptor, open to the end
    line = pipe.readline()
    if not line:
        return 1
    order = read_order(decode(line))
    _limit(order)
    downward = _Downward(pipe)
    report = _Upward(upward)
    signal.signal(signal.SIGTERM, downward.on_sigterm)
    outcome = _work(stage, order, report.event, downward.should_stop)
    report.send(outcome_message(outcome))
    return 0


def _work(stage: Stage, order: Order, events: Events, should_stop: ShouldStop) -> Outcome:
    try:
        return Outcome("done", _finite(stage(order.parameters, events, should_stop)))
    except Exception as error:
        return classify(error)


def _log_to_stderr() -> None:
    """Lines with the time in UTC; the worker keeps the last ones as the job's log."""
    lines = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    lines.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(lines)
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _take_stdout() -> IO[bytes]:
    """Keep the pipe up to ourselves, uninherited, and let whatever libraries print go to stderr."""
    upward = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return upward


def _limit(order: Order) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if order.memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (order.memory_bytes, order.memory_bytes))


class _Upward:
    """The pipe to the worker; callable from any thread of the stage."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._narrator = Narrator()

    def send(self, message: Mapping[str, Any]) -> None:
        line = memoryview(encode(message))
        with self._lock:
            while line:
                line = line[self._pipe.write(line) :]

    def event(self, event: Event) -> None:
        self._narrator.tell(event)
        self.send({"event": asdict(Event(event.type, _finite(event.data)))})


class _Downward:
    """Listens to the worker in a thread of its own; the end of its pipe is the end of this process group."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._stop: StopReason | None = None
        threading.Thread(target=self._listen, name="worker-pipe", daemon=True).start()

    def should_stop(self) -> StopReason | None:
        return self._stop

    def on_sigterm(self, number: int, frame: FrameType | None) -> None:
        """Somebody ends this process politely (an operator, systemd): leave with a checkpoint."""
        self._stop = self._stop or "preempt"

    def _listen(self) -> None:
        for line in self._pipe:
            reason = decode(line).get("stop")
            if reason == "cancel" or reason == "preempt":
                self._stop = reason
        os.killpg(0, signal.SIGKILL)


def _finite(data: Any) -> Any:
    """The data with NaN and infinity as null: JSON has neither, and a diverged loss is worth reporting."""
    if isinstance(data, Mapping):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    if isinstance(data, float) and not math.isfinite(data):
        return None
    return data
