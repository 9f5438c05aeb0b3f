"""What is asked of a job, and how jobs, their events and artifacts are shown."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from core.jobs.states import Status


class WarningView(BaseModel):
    """Something the requester should know."""

    code: str
    message: str


class ErrorView(BaseModel):
    """Why a job failed; `param` is a JSON pointer into the request."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    code: str
    error_class: str = Field(alias="class", description="user, capacity, infrastructure or bug.")
    message: str
    param: str | None = None


class Choice(BaseModel):
    """What the service made of a request: every default settled, and the plan.

    While a dataset of the hub is not fetched yet there is no plan, and what depends on the data is null.
    """

    method: str
    task: str | None
    granularity: str
    target_ratio: float | None = Field(
        description="Null where max_quality_drop is given in its place, and for granularity vocabulary."
    )
    max_quality_drop: float | None
    target_measure: str | None
    spec: dict[str, Any] = Field(description="The engine's request, complete.")
    plan: dict[str, Any] | None = Field(description="What will be removed and what it will bring.")
    warnings: list[WarningView]


class Urls(BaseModel):
    """Where the parts of a job are."""

    self: str
    pause: str
    resume: str
    cancel: str
    events: str
    metrics: str
    log: str
    artifacts: str
    archive: str
    manifest: str


class JobView(Choice):
    """A job as it is now."""

    id: str
    status: Status
    phase: str | None = Field(description="What the engine is doing.")
    progress: float = Field(description="0 to 1 of the whole job.")
    queue_position: int | None = Field(
        description="1 for the next of its queue, if owners take turns and nobody adds a job; null when it does not "
        "wait, or waits behind 500 of its owner's own."
    )
    estimated_start_at: datetime | None = Field(
        description="By how long the last jobs took, rounded up to a minute; null when nobody knows."
    )
    waiting_for: str | None = Field(
        description="The worker that is missing, such as `a worker with a GPU`, when no living one can run the job."
    )
    attempt: int = Field(description="How many times a worker has taken the job up.")
    model: dict[str, Any] = Field(description="As asked for; a hub revision is the resolved commit.")
    teacher: dict[str, Any] | None = Field(description="As asked for; null when the dense model teaches.")
    dataset: dict[str, Any] = Field(description="As asked for; a hub revision is the resolved commit.")
    device_seconds: float = Field(
        description="How long workers have held it, times its devices; counted every few seconds while it runs."
    )
    metrics: dict[str, Any] = Field(description="The latest value of every metric.")
    error: ErrorView | None
    target_missed: bool | None = Field(
        description="Whether the measured latency misses the target by more than 5 %; null until the job has "
        "succeeded. The numbers are in report.latency_target."
    )
    report: dict[str, Any] | None = Field(description="Summary of report.json, once the job has succeeded.")
    priority: int
    gpu_memory_gib: int | None
    timeout_s: float
    metadata: dict[str, str]
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    urls: Urls


class EventView(BaseModel):
    """One thing that happened to a job; `seq` counts from 1, with gaps where progress was thinned out."""

    seq: int
    type: str = Field(description="phase, progress, metric, warning, checkpoint, status or attempt_lost.")
    data: dict[str, Any]
    at: datetime


class EventPage(BaseModel):
    """Events in order."""

    data: list[EventView]
    has_more: bool = Field(description="Whether there are more behind these already.")
    next_after_seq: int = Field(description="Send it as `after_seq` to go on.")


class Metric(BaseModel):
    """One measured value."""

    name: str
    value: float | None
    step: int | None
    at: datetime


class MetricsView(BaseModel):
    """The metrics of a job: the latest of each name, and all of them in order."""

    latest: dict[str, Any]
    history: list[Metric] = Field(description="Oldest first.")


class ArtifactView(BaseModel):
    """One file of a job's result."""

    id: str
    name: str = Field(description="A path with slashes, such as model/config.json.")
    bytes: int
    sha256: str
    media_type: str
    url: str


class ArtifactList(BaseModel):
    """Every file of a job's result."""

    data: list[ArtifactView]
    has_more: Literal[False] = False
    next_cursor: None = None
