"""What a worker holds of one attempt at a job, and what it says of it."""

from dataclasses import dataclass

from core.db.base import Json
from pruning.errors import ErrorClass


@dataclass(frozen=True)
class Token:
    """The right to write about one attempt of a job, until another attempt begins."""

    job_id: str
    attempt: int
    worker_id: str


@dataclass(frozen=True)
class Claim:
    """A job in a worker's hands: what to do, on what, and for how long.

    `capacity_retries` above 0 asks for smaller batches: an earlier attempt ran out of memory. The inputs are
    found by `core.inputs.find_inputs`.
    """

    token: Token
    owner_id: str
    spec: Json
    plan: Json | None
    model_id: str | None
    model_job_id: str | None
    teacher_id: str | None
    teacher_job_id: str | None
    dataset_id: str
    run_timeout_seconds: float
    capacity_retries: int
    traceparent: str | None

    @property
    def previous_attempts(self) -> range:
        """The earlier attempts, newest first."""
        return range(self.token.attempt - 1, 0, -1)


@dataclass(frozen=True)
class Renewal:
    """A lease renewed; `cancel` and `pause` say what the owner wants of the job."""

    cancel: bool
    pause: bool


@dataclass(frozen=True)
class JobError:
    """Why an attempt failed; `param` is a JSON pointer into the request."""

    code: str
    error_class: ErrorClass
    message: str
    param: str = ""

    def as_json(self) -> Json:
        """The error as replies show it."""
        return {"code": self.code, "class": self.error_class, "message": self.message, "param": self.param}
