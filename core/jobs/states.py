"""The life of a job as a pure table: which action leads from which state to which."""

from dataclasses import dataclass
from enum import StrEnum

from pruning.errors import ErrorClass


class Status(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELING = "canceling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class Action(StrEnum):
    """What can happen to a job."""

    CLAIM = "claim"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    CONFIRM_CANCEL = "confirm_cancel"
    FINISH = "finish"
    FAIL = "fail"
    REQUEUE = "requeue"
    QUEUE_TIMEOUT = "queue_timeout"


class IllegalTransition(Exception):
    """The action is not possible in this state."""


HELD = frozenset({Status.RUNNING, Status.PAUSING, Status.CANCELING})
"""States in which an attempt holds a lease."""
ACTIVE = HELD | {Status.QUEUED, Status.PAUSED}
TERMINAL = frozenset(Status) - ACTIVE

# A finish that beats a cancel or a pause wins. Whatever else ends the attempt of a job being canceled, cancels it.
# An attempt that was to pause gives the job back as any other does; where it goes then is what a pause is.
TRANSITIONS: dict[tuple[Status, Action], Status] = {
    (Status.QUEUED, Action.CLAIM): Status.RUNNING,
    (Status.QUEUED, Action.PAUSE): Status.PAUSED,
    (Status.QUEUED, Action.CANCEL): Status.CANCELED,
    (Status.QUEUED, Action.QUEUE_TIMEOUT): Status.FAILED,
    (Status.RUNNING, Action.PAUSE): Status.PAUSING,
    (Status.RUNNING, Action.CANCEL): Status.CANCELING,
    (Status.RUNNING, Action.FINISH): Status.SUCCEEDED,
    (Status.RUNNING, Action.FAIL): Status.FAILED,
    (Status.RUNNING, Action.REQUEUE): Status.QUEUED,
    (Status.PAUSING, Action.RESUME): Status.RUNNING,
    (Status.PAUSING, Action.CANCEL): Status.CANCELING,
    (Status.PAUSING, Action.FINISH): Status.SUCCEEDED,
    (Status.PAUSING, Action.FAIL): Status.FAILED,
    (Status.PAUSING, Action.REQUEUE): Status.PAUSED,
    (Status.PAUSED, Action.RESUME): Status.QUEUED,
    (Status.PAUSED, Action.CANCEL): Status.CANCELED,
    (Status.CANCELING, Action.CANCEL): Status.CANCELING,
    (Status.CANCELING, Action.CONFIRM_CANCEL): Status.CANCELED,
    (Status.CANCELING, Action.FINISH): Status.SUCCEEDED,
    (Status.CANCELING, Action.FAIL): Status.CANCELED,
    (Status.CANCELING, Action.REQUEUE): Status.CANCELED,
}


def transition(status: Status, action: Action) -> Status:
    """The state that `action` leads to; raises IllegalTransition when there is none."""
    try:
        return TRANSITIONS[status, action]
    except KeyError:
        raise IllegalTransition(f"A job that is {status} cannot {action.replace('_', ' ')}.") from None


@dataclass(frozen=True)
class RetryPolicy:
    """How often, and after how long a wait in seconds, an attempt lost to a failing machine is repeated."""

    max_failures: int = 3
    backoff_seconds: float = 10


@dataclass(frozen=True)
class Verdict:
    """What becomes of a job after a failed attempt; the next one waits a random part of `wait_seconds`."""

    action: Action
    failures: int
    capacity_retries: int
    wait_seconds: float = 0


def judge(error_class: ErrorClass, *, failures: int, capacity_retries: int, policy: RetryPolicy) -> Verdict:
    """Whether trying again can help, by class of error.

    A user's error or a bug fails at once. Too little memory is tried once more (with smaller batches). A
    failing machine is tried again until `max_failures` attempts are lost, with a wait that doubles.
    """
    if error_class == "infrastructure":
        wait = policy.backoff_seconds * 2**failures
        action = Action.REQUEUE if failures + 1 < policy.max_failures else Action.FAIL
        return Verdict(action, failures + 1, capacity_retries, wait)
    if error_class == "capacity" and capacity_retries == 0:
        return Verdict(Action.REQUEUE, failures, capacity_retries + 1)
    if error_class == "canceled":
        return Verdict(Action.CONFIRM_CANCEL, failures, capacity_retries)
    return Verdict(Action.FAIL, failures, capacity_retries)
