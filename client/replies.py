"""What the service answers, as frozen objects. Fields that a newer service adds are ignored, not refused."""

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

Item = TypeVar("Item")
Status = Literal["queued", "running", "canceling", "succeeded", "failed", "canceled"]
_TERMINAL: frozenset[Status] = frozenset({"succeeded", "failed", "canceled"})


class Reply(BaseModel):
    """Base of every reply."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class Page(Reply, Generic[Item]):
    """One page of a list; `next_cursor` is opaque."""

    data: tuple[Item, ...]
    has_more: bool = False
    next_cursor: str | None = None


class Model(Reply):
    """A stored model. `status` goes uploading -> ready, or pending -> ready for a hub reference."""

    id: str
    name: str
    source: Literal["upload", "hub"]
    status: Literal["uploading", "pending", "ready"]
    model_type: str | None = None
    parameters: int | None = None
    bytes: int | None = None
    digest: str | None = None
    created_at: datetime


class Dataset(Reply):
    """A stored dataset; `summary` holds rows, columns and labels of each split once it is complete."""

    id: str
    name: str
    source: Literal["upload", "hub"]
    status: Literal["uploading", "pending", "ready"]
    summary: dict[str, Any] | None = None
    bytes: int | None = None
    digest: str | None = None
    created_at: datetime


class JobError(Reply):
    """Why a job failed; `param` is a JSON pointer into the request."""

    code: str
    error_class: str = Field(alias="class")
    message: str
    param: str | None = None


class Warning(Reply):
    """Something the requester should know."""

    code: str
    message: str


class Proposal(Reply):
    """What a job would be, answered by `validate`: the resolved choice and the plan, without a job."""

    method: str
    task: str
    granularity: str
    target_ratio: float
    target_measure: str
    spec: dict[str, Any]
    plan: dict[str, Any]
    warnings: tuple[dict[str, Any], ...] = ()


class Job(Proposal):
    """A job as it is now. `progress` is 0..1 of the whole job; `report` is filled when it succeeded."""

    id: str
    status: Status
    phase: str | None = None
    progress: float | None = None
    queue_position: int | None = None
    attempt: int = 0
    model: Any = None
    dataset: Any = None
    metrics: dict[str, Any] | None = None
    error: JobError | None = None
    report: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in _TERMINAL


class Event(Reply):
    """One thing that happened to a job; `seq` counts up from 1 without regard to attempts."""

    seq: int
    type: str
    data: dict[str, Any] = Field(default_factory=dict)
    at: datetime


class Artifact(Reply):
    """One file of a finished job; `name` is a path with slashes, such as model/config.json."""

    id: str
    name: str
    bytes: int
    sha256: str
    media_type: str


class MethodInfo(Reply):
    """A pruning method and the JSON schema of its settings."""

    name: str
    summary: str = ""
    granularities: tuple[str, ...] = ()
    settings_schema: dict[str, Any] = Field(default_factory=dict)


class Version(Reply):
    """What runs behind the address."""

    version: str
