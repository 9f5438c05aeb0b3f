"""What is asked of a job: the engine's request, and around it the service's own fields."""

from typing import Annotated, Any

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from app.assets import HubConfig, HubId, Revision
from app.http.payload import Payload, storable
from pruning.spec import PruneSpec

ID_MODEL = r"^mdl_[0-9a-z]{26}$"
ID_DATASET = r"^dst_[0-9a-z]{26}$"
ID_JOB = r"^job_[0-9a-z]{26}$"
ENVELOPE = frozenset({"model", "dataset", "teacher", "priority", "gpu_memory_gib", "timeout_s", "metadata"})
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


_ABOUT = {
    "target_ratio": "The fraction REMOVED of `target_measure`, 0 <= r < 1; 0 only fine-tunes. "
    "Either this or max_quality_drop.",
    "max_quality_drop": "In place of target_ratio: remove as much of `target_measure` as loses at most so many points "
    "(hundredths) of the task's metric.",
    "quality_candidates": "With max_quality_drop: how many cuts are tried; default 8.",
    "granularity": "What is dropped as a whole: structured, neuron, head, hybrid:RxC, multilevel:RxC, block:RxC, row, "
    "unstructured, N:M; or vocabulary, the tokens that the dataset does not have, without target_ratio.",
    "method": "A name, or a name with settings; `auto`: kprune for a model that does the task already, else leap.",
    "target_measure": "What target_ratio counts: weights or flops of the layers, all parameters of the model, or the "
    "latency of a forward pass on the worker's device. Default: flops for units that can be removed, else weights.",
    "latency_batch": "Rows of the forward pass whose latency is the target; default the first of evaluate.batch_sizes.",
    "latency_length": "Tokens of each of its rows; default evaluate.sequence_length.",
    "round_to": "Layers keep a multiple of so many neurons where neurons are removed (halved until it divides their "
    "width); default 8, and 1 for any number.",
    "task": "Inferred from the columns and the labels when left out.",
    "columns": "Names of the dataset's columns; those left out have usual names.",
    "label_names": "Names of the labels or tags that the dataset writes as 0, 1, 2 ...",
    "max_length": "Most tokens of a row; longer ones are cut, contexts of questions and plain text become windows.",
    "doc_stride": "Tokens that neighbouring windows share: of questions 128 or a third of max_length, of text none.",
    "finetune": "Dense fine-tuning before pruning; on when the model has no trained head for the task.",
    "recover": "Fine-tuning with fixed masks after pruning; on for methods that train.",
    "distill": "Learning from the teacher, by default the dense model.",
    "allocation": "`global`: uneven layers, best quality. `native`: all layers alike, full speed by a plain load.",
    "evaluate": "What is measured of the result.",
    "exports": "What is made of the result beside the Hugging Face directory: onnx, a file for onnxruntime and others.",
    "seed": "The same request with the same seed gives the same bytes on the same machine type.",
    "precision": "Of training; fp16 on a GPU only.",
    "compile": "Whether training is compiled, for long runs; the worker needs a C++ compiler, on a GPU one of C.",
    "checkpoint_seconds": "Time between checkpoints of training: the most work that a crash can undo.",
    "device": "`cuda` waits for a worker that has it.",
    "devices": "GPUs, or processes on cores, that share each batch of training; batch_size must divide by it.",
}
_EXAMPLE = {
    "model": "mdl_01k9zq3v7rj4m8x2c5t6w9y0ab",
    "dataset": "dst_01k9zq41hcn2e7p8d3f5g6s7tv",
    "target_ratio": 0.5,
    "granularity": "structured",
    "method": "auto",
}


def _shape(schema: dict[str, Any]) -> None:
    """On the wire `method` is a name, or a name with its settings; `settings` is no field of its own."""
    properties = schema["properties"]
    properties.pop("settings")
    name = {"type": "string", "maxLength": 64}
    with_settings = {"type": "object", "required": ["name"], "properties": {"name": name}}
    properties["method"] = {"title": "Method", "default": "auto", "anyOf": [name, with_settings]}
    for field, text in _ABOUT.items():
        properties[field]["description"] = text
    schema["examples"] = [_EXAMPLE]


class JobRequest(PruneSpec):
    """Prune a model: which one, with which data, how much, in what units. The rest has a default."""

    model_config = ConfigDict(
        title="JobRequest",
        json_schema_extra=_shape,
        protected_namespaces=(),
    )

    model: ModelReference = Field(
        description="The id of an uploaded model, one of the hub, or a job's result."
    )
    teacher: ModelReference | None = Field(
        default=None,
        description="What the model learns from where it is trained with distill; by default its own dense self. "
        "A model of the same family and vocabulary, with a head that was trained for the same labels.",
    )
    dataset: DatasetReference = Field(description="The id of an uploaded dataset, or a dataset of the hub.")
    priority: int = Field(
        default=0,
        ge=-100,
        le=100,
        description="Jobs of a higher priority go first; a minute of waiting counts as much as a point.",
    )
    gpu_memory_gib: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="With device `cuda`: least memory of each of its GPUs, as the driver reports it.",
    )
    timeout_s: float | None = Field(
        default=None, gt=0, le=30 * 86_400, description="Longest run of one attempt, in seconds."
    )
    metadata: Metadata = Field(
        default={}, max_length=16, description="Up to 16 texts of the client's own, given back unchanged."
    )

    @field_validator("gpu_memory_gib")
    @classmethod
    def _memory_is_a_gpus(cls, gib: int | None, info: ValidationInfo) -> int | None:
        if gib is not None and info.data.get("device") in ("auto", "cpu"):
            raise ValueError("gpu_memory_gib is of GPUs: set device 'cuda', or leave it out")
        return gib

    @model_validator(mode="before")
    @classmethod
    def _split_method(cls, value: Any) -> Any:
        value = storable(value)
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
