"""What the service answers, as frozen objects. Fields that a newer service adds are ignored, not refused."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")
Status = Literal["queued", "running", "pausing", "paused", "canceling", "succeeded", "failed", "canceled"]
_TERMINAL: frozenset[Status] = frozenset({"succeeded", "failed", "canceled"})


class Reply(BaseModel):
    """Base of every reply."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Page(Reply, Generic[Item]):
    """One page of a list; `next_cursor` is opaque."""

    data: tuple[Item, ...]
    has_more: bool = False
    next_cursor: str | None = None


class StoredFile(Reply):
    """One file of a model or dataset; the hash of a hub's file may be unknown until it is fetched."""

    name: str
    bytes: int
    sha256: str | None


class Hub(Reply):
    """Where something comes from on the hub; `revision` is a commit."""

    id: str
    revision: str
    config: str | None = None


class Asset(Reply):
    """What models and datasets share. `status` goes uploading -> ready; one of the hub pending -> ready."""

    id: str
    name: str
    source: Literal["upload", "hub"]
    status: Literal["uploading", "pending", "ready"]
    bytes: int
    digest: str | None
    created_at: datetime
    files: tuple[StoredFile, ...]
    hub: Hub | None = None


class Model(Asset):
    """A stored model."""

    model_type: str | None = None
    parameters: int | None = None


class Dataset(Asset):
    """A stored dataset; `summary` says what is in its splits once it is complete."""

    summary: dict[str, Any] | None = None


class Part(Reply):
    """A part of a file that has come."""

    number: int
    bytes: int
    sha256: str


class Upload(Reply):
    """A file that comes in parts: `part_count` of `part_bytes` each, the last with what is left."""

    id: str
    model: str | None
    dataset: str | None
    name: str
    bytes: int
    sha256: str
    part_bytes: int
    part_count: int
    status: Literal["receiving", "complete"]
    parts: tuple[Part, ...]


class Notice(Reply):
    """Something the requester should know."""

    code: str
    message: str


class JobError(Reply):
    """Why a job failed; `param` is a JSON pointer into the request."""

    code: str
    error_class: str = Field(alias="class")
    message: str
    param: str | None = None


class Proposal(Reply):
    """What the service makes of a request: every default settled, and the plan.

    What depends on a dataset of the hub that is not fetched yet is None.
    """

    method: str
    task: str | None
    granularity: str
    target_ratio: float | None
    max_quality_drop: float | None = None
    target_measure: str | None
    spec: dict[str, Any]
    plan: dict[str, Any] | None
    warnings: tuple[Notice, ...]


class Job(Proposal):
    """A job as it is now. `progress` is 0..1 of the whole job; `report` is a summary of the result.

    `waiting_for` names the worker that is missing when no living one can run it.
    `target_missed` says of a job that succeeded that its result is slower than the latency that was asked for.
    """

    id: str
    status: Status
    phase: str | None
    progress: float
    queue_position: int | None
    estimated_start_at: datetime | None = None
    waiting_for: str | None = None
    attempt: int
    model: dict[str, Any]
    teacher: dict[str, Any] | None
    dataset: dict[str, Any]
    device_seconds: float = 0.0
    metrics: dict[str, Any]
    error: JobError | None
    target_missed: bool | None = None
    report: dict[str, Any] | None
    priority: int
    timeout_s: float
    metadata: dict[str, str]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in _TERMINAL


class Event(Reply):
    """One thing that happened to a job; `seq` grows, with gaps where progress was thinned out.

    `type` is phase, progress, metric, warning, checkpoint, status or attempt_lost.
    """

    seq: int
    type: str
    data: dict[str, Any]
    at: datetime


class Metric(Reply):
    """One measured value."""

    name: str
    value: float | None
    step: int | None
    at: datetime


class Metrics(Reply):
    """The metrics of a job: the latest of each name, and all of them, oldest first."""

    latest: dict[str, Any]
    history: tuple[Metric, ...]


class Log(Reply):
    """The end of what the processes of a job's attempt wrote, 0 before the first; `bytes` counts all of it."""

    attempt: int
    bytes: int
    text: str


class Artifact(Reply):
    """One file of a finished job; `name` is a path with slashes, such as model/config.json."""

    id: str
    name: str
    bytes: int
    sha256: str
    media_type: str


class Version(Reply):
    """What runs behind the address."""

    version: str


class Worker(Reply):
    """A worker process. `running` counts its jobs, `jobs` names those of whoever asks.

    `stale` says that its last sign of life is more than a minute ago.
    """

    id: str
    queues: tuple[str, ...]
    slots: int
    devices: tuple[str, ...]
    gpu_memory_gib: float = 0.0
    running: int
    jobs: tuple[str, ...]
    started_at: datetime
    heartbeat_at: datetime
    stale: bool


class MethodInfo(Reply):
    """A pruning method and the JSON schema of its settings."""

    name: str
    title: str
    summary: str
    granularities: tuple[str, ...]
    measures: tuple[str, ...]
    needs_training: bool
    cuts_many: bool = False
    settings_schema: dict[str, Any]
