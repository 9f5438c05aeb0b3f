"""Watch over one child process from its order to its end."""

import logging
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from core.jobs.attempts import JobError
from core.settings import Settings
from pruning.errors import ErrorClass
from pruning.events import Event, EventType, StopReason
from worker.channel import BrokenChannel, Order, Outcome, order_message, read_outcome, stop_message
from worker.heartbeat import Heartbeat
from worker.phases import Phases
from worker.process import ChildProcess

log = logging.getLogger(__name__)

FENCE = 0.7
"""Part of the lease after which an attempt without renewal ends itself, before another may begin."""

PREEMPT_GRACE_SECONDS = 30.0
"""Least time for the last checkpoint of a job that is to pause, or whose worker leaves, which compose gives twice as
long."""

_TICK = 0.2
_EVENT_TYPES = get_args(EventType)


@dataclass(frozen=True)
class Done:
    """The stage did its work; `result` is what it returned."""

    result: Any


@dataclass(frozen=True)
class Stopped:
    """The stage ended because it was asked to."""

    reason: StopReason


@dataclass(frozen=True)
class Failed:
    """The stage failed."""

    error: JobError


@dataclass(frozen=True)
class Fenced:
    """The attempt lost its lease, or could not be sure of it any more; its work is nobody's."""


Ending = Done | Stopped | Failed | Fenced


class Watch:
    """Supervises one child: passes events on, passes stops down, enforces the lease and the deadlines.

    `preempted` says whether the worker is leaving. Deadlines are moments of `time.monotonic`.
    """

    def __init__(
        self,
        child: ChildProcess,
        heartbeat: Heartbeat,
        settings: Settings,
        *,
        preempted: Callable[[], bool],
        deadline: float,
    ) -> None:
        self._child = child
        self._heartbeat = heartbeat
        self._settings = settings
        self._preempted = preempted
        self._deadline = deadline
        self._heard_at = time.monotonic()
        self._asked: StopReason | None = None
        self._kill_at = float("inf")
        self._outcome: Outcome | None = None
        self._phases = Phases()

    def run(self, order: Order) -> Ending:
        """Give the order and stay until the child's whole group is dead; returns how it ended."""
        killed: Ending | None = None
        try:
            self._child.send(order_message(order))
            while killed is None and not self._child.exited():
                self._hear(_TICK)
                self._pass_stop_down()
                killed = self._reason_to_kill()
            if killed is None:
                self._hear(0)
        except BrokenChannel as error:
            killed = Failed(JobError("internal_error", "bug", f"The job's process spoke nonsense: {error}"))
        finally:
            code = self._child.close()
            self._phases.close()
        if killed is None or (isinstance(killed, Stopped) and self._outcome is not None):
            return self._ending(code)
        return killed

    def _hear(self, timeout: float) -> None:
        for message in self._child.receive(timeout):
            self._heard_at = time.monotonic()
            if "event" in message:
                event = _read_event(message)
                self._phases.tell(event)
                self._heartbeat.tell(event)
            else:
                self._outcome = read_outcome(message)

    def _pass_stop_down(self) -> None:
        """Ask once, then wait for the grace. A cancel overtakes a pause or preemption: it needs no checkpoint."""
        if self._heartbeat.cancel_requested and self._asked != "cancel":
            self._ask("cancel", self._settings.cancel_grace_seconds)
        elif self._asked is None and (self._preempted() or self._heartbeat.pause_requested):
            self._ask("preempt", max(PREEMPT_GRACE_SECONDS, self._settings.cancel_grace_seconds))

    def _ask(self, reason: StopReason, grace: float) -> None:
        self._asked = reason
        self._kill_at = time.monotonic() + grace
        self._child.send(stop_message(reason))

    def _reason_to_kill(self) -> Ending | None:
        now, settings = time.monotonic(), self._settings
        if self._heartbeat.lost or self._heartbeat.age > FENCE * settings.lease_seconds:
            return Fenced()
        if self._asked is not None and now > self._kill_at:
            return Stopped(self._asked)
        if now > self._deadline:
            message = "The job ran longer than its time limit."
            return Failed(JobError("run_timeout", "user", message, "/timeout_s"))
        if now > self._heard_at + settings.stall_timeout_seconds:
            message = f"The job reported nothing for {settings.stall_timeout_seconds:.0f} seconds."
            return Failed(JobError("stalled", "infrastructure", message))
        return None

    def _ending(self, code: int) -> Ending:
        """What the child's own end means: its report, or, without one, its exit code."""
        outcome = self._outcome
        if outcome is None:
            return Stopped(self._asked) if self._asked else Failed(self._crash(code))
        if outcome.status == "done":
            return Done(outcome.result)
        if outcome.status == "failed":
            error = JobError(outcome.code, outcome.error_class, outcome.message, outcome.param)
            if error.error_class == "bug":
                log.error("the job's process failed, its last words:\n%s", self._child.stderr_tail)
            return Failed(error)
        if self._asked is not None:
            return Stopped(self._asked)
        message = "The job's process was asked to end by somebody other than its worker."
        return Failed(JobError("interrupted", "infrastructure", message))

    def _crash(self, code: int) -> JobError:
        log.error("the job's process ended with code %d, its last words:\n%s", code, self._child.stderr_tail)
        if code == -signal.SIGKILL:
            # Nobody but the kernel short of memory, or an operator, kills a process that we did not kill.
            message = "The job's process was killed, most likely because the machine ran out of memory."
            return JobError("out_of_memory", "capacity", message)
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        error_class: ErrorClass = "infrastructure" if code in (-signal.SIGBUS, -signal.SIGTERM) else "bug"
        return JobError("crashed", error_class, f"The job's process ended unexpectedly by {how}.")


def _read_event(message: Mapping[str, Any]) -> Event:
    event = message["event"]
    if not isinstance(event, dict) or event.get("type") not in _EVENT_TYPES or not _is_data(event):
        raise BrokenChannel(f"expected an event, got {str(event)[:80]}")
    return Event(**event)


def _is_data(event: Mapping[str, Any]) -> bool:
    return event.keys() == {"type", "data"} and isinstance(event["data"], dict)
