"""What is asked of a job, and how jobs, their events and artifacts are shown."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, model_validator
from pydantic_core import PydanticCustomError

from app.assets import HubConfig, HubId, Revision
from app.http.payload import Payload, refuse_unstorable
from core.jobs.states import Status
from pruning.spec import PruneSpec

ID_MODEL = r"^mdl_[0-9a-z]{26}$"
ID_DATASET = r"^dst_[0-9a-z]{26}$"
ID_JOB = r"^job_[0-9a-z]{26}$"
ENVELOPE = frozenset({"model", "dataset", "priority", "timeout_s", "metadata"})
"""Fields of a request that are the service's; all others are the engine's PruneSpec."""


class HubModel(Payload):
    """A model of the hub; the revision is resolved to a commit and stored."""

    hub: HubId = Field(examples=["bert-base-uncased"])
    revision: Revision = Field(default="main", description="Branch, tag or commit.")


class HubDataset(Payload):
    """A dataset of the hub; the revision is resolved to a commit and stored."""

    hub: HubId = Field(examples=["stanfordnlp/sst2"])
    config: HubConfig | None = Field(default=None, description="Configuration, where there are several.")
    revision: Revision = Field(default="main", description="Branch, tag or commit.")


class JobModel(Payload):
    """The model that an earlier job made."""

    job: Annotated[str, StringConstraints(pattern=ID_JOB)]


def _branch(value: Any) -> str:
    if isinstance(value, dict):
        return "of a job" if "job" in value else "of the hub"
    if isinstance(value, HubModel):
        return "of the hub"
    return "of a job" if isinstance(value, JobModel) else "uploaded"


# The tags hold blanks, so that no field of a request can be taken for one when a pointer is made.
ModelReference = Annotated[
    Annotated[str, StringConstraints(pattern=ID_MODEL), Tag("uploaded")]
    | Annotated[HubModel, Tag("of the hub")]
    | Annotated[JobModel, Tag("of a job")],
    Discriminator(_branch),
]
DatasetReference = Annotated[
    Annotated[str, StringConstraints(pattern=ID_DATASET), Tag("uploaded")]
    | Annotated[HubDataset, Tag("of the hub")],
    Discriminator(lambda value: "of the hub" if isinstance(value, dict | HubDataset) else "uploaded"),
]
Metadata = dict[
    Annotated[str, StringConstraints(min_length=1, max_length=64)],
    Annotated[str, StringConstraints(max_length=512)],
]


def _shape_method(schema: dict[str, Any]) -> None:
    """On the wire `method` is a name, or a name with its settings; `settings` is no field of its own."""
    schema["properties"].pop("settings")
    name = {"type": "string", "maxLength": 64}
    with_settings = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": name},
        "additionalProperties": True,
        "description": "A method and its settings; GET /v1/methods/{name} has their schema.",
    }
    schema["properties"]["method"] |= {"anyOf": [name, with_settings]}
    schema["properties"]["method"].pop("type")
    schema["properties"]["method"].pop("maxLength")


class JobRequest(PruneSpec):
    """Prune a model: which one, with which data, how much, in what units. The rest has a default."""

    model_config = ConfigDict(
        title="JobRequest",
        json_schema_extra=_shape_method,
        protected_namespaces=(),
    )

    model: ModelReference = Field(
        description="The id of an uploaded model, one of the hub, or a job's result."
    )
    dataset: DatasetReference = Field(description="The id of an uploaded dataset, or a dataset of the hub.")
    priority: int = Field(default=0, ge=-100, le=100, description="Jobs of a higher priority go first.")
    timeout_s: float | None = Field(
        default=None, gt=0, le=30 * 86_400, description="Longest run of one attempt, in seconds."
    )
    metadata: Metadata = Field(
        default={}, max_length=16, description="Up to 16 texts of the client's own, given back unchanged."
    )

    @model_validator(mode="before")
    @classmethod
    def _split_method(cls, value: Any) -> Any:
        refuse_unstorable(value)
        if not isinstance(value, dict):
            return value
        if "settings" in value:
            message = 'Settings belong to the method: {"method": {"name": ..., setting: value}}.'
            raise PydanticCustomError("settings_without_method", "{message}", {"message": message})
        if not isinstance(method := value.get("method"), dict):
            return value
        settings = {key: inner for key, inner in method.items() if key != "name"}
        return value | {"method": method.get("name"), "settings": settings}

    def spec(self) -> PruneSpec:
        """The engine's part of the request."""
        return PruneSpec.model_validate(self.model_dump(exclude=set(ENVELOPE)))

    def as_sent(self) -> dict[str, Any]:
        """The request as JSON, with only the fields that were sent."""
        sent = self.model_dump(mode="json", exclude_unset=True)
        settings = sent.pop("settings", {})
        return sent | {"method": {"name": self.method, **settings}} if settings else sent


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
    target_ratio: float
    target_measure: str | None
    spec: dict[str, Any] = Field(description="The engine's request, complete.")
    plan: dict[str, Any] | None = Field(description="What will be removed and what it will bring.")
    warnings: list[WarningView]


class Urls(BaseModel):
    """Where the parts of a job are."""

    self: str
    cancel: str
    events: str
    metrics: str
    artifacts: str
    archive: str


class JobView(Choice):
    """A job as it is now."""

    id: str
    status: Status
    phase: str | None = Field(description="What the engine is doing.")
    progress: float = Field(description="0 to 1 of the whole job.")
    queue_position: int | None = Field(description="1 for the next of its queue; null when it does not wait.")
    attempt: int = Field(description="How many times a worker has taken the job up.")
    model: dict[str, Any] = Field(description="As asked for; a hub revision is the resolved commit.")
    dataset: dict[str, Any] = Field(description="As asked for; a hub revision is the resolved commit.")
    metrics: dict[str, Any] = Field(description="The latest value of every metric.")
    error: ErrorView | None
    report: dict[str, Any] | None = Field(description="Summary of report.json, once the job has succeeded.")
    priority: int
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
