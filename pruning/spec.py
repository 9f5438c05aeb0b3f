"""What a person asks of the engine: the one contract that every room shares.

Imports no torch: the API validates the same objects that the worker runs.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from pruning.granularity import Granularity
from pruning.options import Asked, Distill, Finetune, Model, Recover

Task = Literal[
    "sequence-classification", "regression", "token-classification", "question-answering", "causal-lm"
]
Measure = Literal["weights", "flops", "parameters", "latency"]
RoundTo = Literal[1, 2, 4, 8, 16, 32, 64, 128]
Allocation = Literal["global", "native"]
ExportForm = Literal["onnx"]
Precision = Literal["fp32", "bf16", "fp16"]

T = TypeVar("T")
Listed = Annotated[tuple[T, ...], Field(strict=False)]
"""Kept as a tuple; JSON has lists."""


def _granularity(text: str) -> str:
    Granularity.parse(text)
    return text


class Columns(Model):
    """Names of the dataset's columns; each is inferred from the usual names when left out.

    A row is a text (or a pair) with a `label`; a line of text without one; or `tokens` with one of `tags` each; or a
    `question` about a `context` with its `answers`, and with their first characters in `answer_starts` where
    `answers` has none.
    """

    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    tokens: str | None = None
    tags: str | None = None
    context: str | None = None
    question: str | None = None
    answers: str | None = None
    answer_starts: str | None = None


class Evaluation(Asked):
    """What is measured of the result. `latency` times dense against pruned at the given batch sizes and length."""

    latency: bool = True
    batch_sizes: Listed[Annotated[int, Field(ge=1, le=1024)]] = (1, 8)
    sequence_length: int = Field(default=128, ge=8, le=512)
    rounds: int = Field(default=20, ge=3, le=1000)
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    max_rows: int | None = Field(default=None, ge=1)


class PruneSpec(Asked):
    """One request to the engine, complete: with the same model and dataset it gives the same bytes.

    `devices` is how many GPUs, or processes on cores, share each batch of training.

    `label_names` are the names of labels and tags that the dataset writes as 0, 1, 2 ...

    Exactly one of two says how much is pruned. `target_ratio` is the fraction REMOVED of `target_measure`; 0 means
    dense fine-tuning only. `max_quality_drop` is how many points (hundredths) of the task's metric may be lost: as much
    of `target_measure` is removed as that allows, found with `quality_candidates` cuts. Granularity `vocabulary` has
    neither: it keeps the tokens that the dataset needs.

    `weights` and `flops` are counted over the transformer layers, `parameters` over the whole model; `latency` is the
    time of one forward pass over `latency_batch` rows of `latency_length` tokens on the job's device. Layers keep a
    multiple of `round_to` neurons where neurons are removed.

    `exports` names what is delivered beside the Hugging Face directory: "onnx", the same model as an ONNX file.

    `method` "auto" and fields left at None are settled by `pruning.planning.plan.resolve`, which also refuses what
    cannot be done.
    """

    granularity: Annotated[str, AfterValidator(_granularity)] = "structured"
    max_quality_drop: float | None = Field(default=None, ge=0, le=100)
    target_ratio: float | None = Field(default=None, ge=0, lt=1, validate_default=True)
    quality_candidates: int | None = Field(default=None, ge=3, le=32)
    method: str = Field(default="auto", max_length=64)
    settings: dict[str, Any] = Field(default_factory=dict)
    target_measure: Measure | None = None
    latency_batch: int | None = Field(default=None, ge=1, le=1024)
    latency_length: int | None = Field(default=None, ge=8, le=512)
    round_to: RoundTo | None = None
    task: Task | None = None
    columns: Columns = Columns()
    label_names: Listed[Annotated[str, Field(min_length=1, max_length=256)]] | None = None
    max_length: int = Field(default=128, ge=8, le=4096)
    doc_stride: int | None = Field(default=None, ge=1, le=2048)
    finetune: Finetune | bool | None = None
    recover: Recover | bool | None = None
    distill: Distill | bool = True
    allocation: Allocation = "global"
    evaluate: Evaluation = Evaluation()
    exports: Listed[ExportForm] = Field(default=(), max_length=1)
    seed: int = Field(default=0, ge=0, lt=2**31)
    precision: Precision = "fp32"
    compile: bool = False
    checkpoint_seconds: float = Field(default=60.0, ge=5, le=3600)
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", validate_default=True)
    devices: int = Field(default=1, ge=1, le=64)

    @property
    def cuts_vocabulary(self) -> bool:
        """Whether tokens are removed, and nothing else."""
        return self.granularity == "vocabulary"

    @property
    def fills(self) -> bool:
        """Whether zeros in what is left become weights again."""
        return isinstance(self.recover, Recover) and self.recover.fill

    @field_validator("device")
    @classmethod
    def _fp16_needs_a_gpu(cls, device: str, info: ValidationInfo) -> str:
        if info.data.get("precision") == "fp16" and device != "cuda":
            raise ValueError("precision 'fp16' trains on a GPU only: set device 'cuda', or precision 'bf16'")
        return device

    @field_validator("target_ratio")
    @classmethod
    def _one_target(cls, ratio: float | None, info: ValidationInfo) -> float | None:
        drop = info.data.get("max_quality_drop")
        if info.data.get("granularity") == "vocabulary":
            if ratio is not None or drop is not None:
                raise ValueError(
                    "granularity 'vocabulary' keeps the tokens that the dataset needs, which leaves no ratio to "
                    "choose: leave target_ratio and max_quality_drop out"
                )
            return ratio
        if ratio is not None and drop is not None:
            raise ValueError("target_ratio and max_quality_drop exclude each other: give one of them")
        if ratio is None and drop is None and "max_quality_drop" in info.data:
            message = "a target is missing: give target_ratio, or max_quality_drop"
            raise PydanticCustomError("target_missing", "{message}", {"message": message})
        return ratio

    @field_validator("target_measure")
    @classmethod
    def _measure_fits(cls, measure: Measure | None, info: ValidationInfo) -> Measure | None:
        granularity = info.data.get("granularity")
        if measure in ("flops", "latency") and granularity and not Granularity.parse(granularity).removable:
            raise ValueError(
                f"target_measure {measure!r} needs units that can all be removed; "
                f"{granularity!r} leaves zeros: use 'weights' or 'parameters'"
            )
        return measure

    @property
    def prunes(self) -> bool:
        """Whether anything is to be removed."""
        return self.target_ratio != 0

    @property
    def ratio(self) -> float:
        """The ratio that is asked for, 0 where it is yet to be found: for `max_quality_drop`, or of a vocabulary."""
        return self.target_ratio or 0.0
