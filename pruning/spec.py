"""What a person asks of the engine, and what it says while it works: the one contract that every room shares.

Imports no torch: the API validates the same objects that the worker runs.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

Task = Literal[
    "sequence-classification", "regression", "token-classification", "question-answering", "causal-lm"
]
Measure = Literal["weights", "flops", "parameters", "latency"]
RoundTo = Literal[1, 2, 4, 8, 16, 32, 64, 128]
Allocation = Literal["global", "native"]
LayerMap = Literal["equal", "nearest", "nearest_in_order"]
Precision = Literal["fp32", "bf16", "fp16"]
Phase = Literal[
    "loading", "finetuning", "calibrating", "pruning", "recovering", "evaluating", "exporting", "measuring"
]
Kind = Literal[
    "unstructured", "block", "row", "neuron", "head", "structured", "hybrid", "multilevel", "n_m", "layer"
]

LAYERS_MATCHED = 4
"""How many layers of a teacher look for the student's nearest: 3, 6, 9 and 12 of 12 (CoFi); all of fewer."""

_BLOCKS = re.compile(r"(block|hybrid|multilevel)(?::([1-9]\d{0,3})x([1-9]\d{0,3}))?")
_USUAL_BLOCK = (32, 32)
_N_M = re.compile(r"([1-9]\d?):([1-9]\d?)")
_PLAIN: tuple[Kind, ...] = ("unstructured", "row", "neuron", "head", "structured", "layer")


@dataclass(frozen=True)
class Granularity:
    """What is dropped as a whole. `shape` is (rows, columns) of a block, or (N zeros, M inputs) for N:M.

    `row`: output rows, with their biases, of the attention output and the FFN (LEAP, released code). `structured`:
    `head` and `neuron` together. `hybrid`: blocks in the attention, neurons in the FFN (Lagunas et al. 2021).
    `multilevel`: first heads and neurons, then blocks of all that is left (LEAP, released code).
    """

    kind: Kind
    shape: tuple[int, int] | None = None

    @classmethod
    def parse(cls, text: str) -> "Granularity":
        """Read `structured`, `block:32x32`, `2:4` ...; raises ValueError that names the legal forms."""
        for plain in _PLAIN:
            if text == plain:
                return cls(plain)
        if match := _BLOCKS.fullmatch(text):
            return cls(cast(Kind, match[1]), (int(match[2]), int(match[3])) if match[2] else _USUAL_BLOCK)
        if (match := _N_M.fullmatch(text)) and int(match[1]) < int(match[2]):
            return cls("n_m", (int(match[1]), int(match[2])))
        raise ValueError(
            f"{text!r} is not a granularity; use one of {', '.join(_PLAIN)}, block:ROWSxCOLUMNS such as block:32x32, "
            "hybrid:ROWSxCOLUMNS, multilevel:ROWSxCOLUMNS, or N:M with N < M such as 2:4"
        )

    @property
    def removable(self) -> bool:
        """Whether all dropped units leave the model physically (the result is smaller, not only sparser)."""
        return self.kind in ("neuron", "head", "structured", "layer")

    @property
    def removes(self) -> bool:
        """Whether dropped units leave the model physically: all of them, or some."""
        return self.removable or self.mixed

    @property
    def mixed(self) -> bool:
        """Whether some dropped units leave the model physically and others are zeros in what is left."""
        return self.kind in ("hybrid", "multilevel")


def _granularity(text: str) -> str:
    Granularity.parse(text)
    return text


class Model(BaseModel):
    """Base of every request object: frozen, and an unknown field is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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


_EPOCHS = "Times that the training rows are seen; a part of one is allowed."
_PEAK = "Peak learning rate of the weights (AdamW); it rises from 0 and falls to 0 linearly."


class Training(Model):
    """One training stage. Steps are optimizer steps; `max_steps` overrides `epochs` when given."""

    epochs: float = Field(default=3.0, gt=0, le=1000, description=_EPOCHS)
    max_steps: int | None = Field(
        default=None, ge=1, le=10_000_000, description="Optimizer steps; when given, in place of epochs."
    )
    learning_rate: float = Field(default=5e-5, gt=0, lt=1, description=_PEAK)
    batch_size: int = Field(default=32, ge=1, le=4096, description="Rows of one optimizer step.")
    warmup_fraction: float = Field(
        default=0.1, ge=0, lt=1, description="Part of the steps in which the learning rate rises."
    )
    weight_decay: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Decay of the weight matrices (AdamW); biases, norms and what a method learns beside the "
        "weights never decay.",
    )


class Finetune(Training):
    """Dense fine-tuning before pruning; the whole job when `target_ratio` is 0."""


class Recover(Training):
    """Fine-tuning after pruning, with fixed masks or, to `fill` them, without."""

    epochs: float = Field(default=1.0, gt=0, le=1000, description=_EPOCHS)
    learning_rate: float = Field(default=3e-5, gt=0, lt=1, description=_PEAK)
    fill: bool = Field(
        default=False,
        description="Of results of which a part is removed and a part is zero (hybrid, multilevel): whether the "
        "zeros in what is left become weights again, small random ones at first, and train with the others (hybrid "
        "filled, Lagunas et al. 2021). Less is removed then than was asked.",
    )


class Distill(Model):
    """Distillation from a teacher, by default the dense model.

    The loss is weight * T^2 * KL(teacher || student) + (1 - weight) * task loss + hidden * MSE of hidden states
    + attention * MSE of attention probabilities. Padding counts nowhere.
    """

    temperature: float = Field(
        default=2.0, gt=0, le=100, description="T: both distributions of the answers are softened by it."
    )
    weight: float = Field(
        default=0.9, ge=0, le=1, description="Part of the teacher's answers; the rest is the task's loss."
    )
    hidden: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="Weight of the mean squared difference of the hidden states, mean over the matched layers.",
    )
    attention: float = Field(
        default=0.0,
        ge=0,
        le=1000,
        description="Weight of the mean squared difference of the attention probabilities, mean over the matched "
        "layers with as many heads in both models; pruned heads are left out.",
    )
    layers: LayerMap = Field(
        default="equal",
        description="Which layers of the hidden states are matched. equal: those of the same index, or every "
        "k-th of the deeper model. nearest: each of four layers of the teacher (all of fewer) with the student's layer "
        "that is least different in the batch, of those that have a head left (CoFi). nearest_in_order: the same from "
        "the last layer down, each with a layer below the one before, for small datasets. Attention always matches "
        "by index.",
    )
    projection: bool = Field(
        default=False,
        description="Whether the student's hidden states go through one learned linear map, at first the "
        "identity. A teacher of another hidden size needs and gets one.",
    )

    @model_validator(mode="after")
    def _every_option_counts(self) -> Self:
        if not self.hidden and (self.projection or self.layers != "equal"):
            raise ValueError(
                "layers and projection are about hidden states: set hidden above 0, or leave them out"
            )
        if not (self.weight or self.hidden or self.attention):
            raise ValueError(
                "nothing is distilled: set weight, hidden or attention above 0, or distill to false"
            )
        return self


class Evaluation(Model):
    """What is measured of the result. `latency` times dense against pruned at the given batch sizes and length."""

    latency: bool = True
    batch_sizes: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = (1, 8)
    sequence_length: int = Field(default=128, ge=8, le=512)
    rounds: int = Field(default=20, ge=3, le=1000)
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    max_rows: int | None = Field(default=None, ge=1)


class PruneSpec(Model):
    """One request to the engine, complete: with the same model and dataset it gives the same bytes.

    `devices` is how many GPUs, or processes on cores, share each batch of training.

    `label_names` are the names of labels and tags that the dataset writes as 0, 1, 2 ...

    Exactly one of two says how much is pruned. `target_ratio` is the fraction REMOVED of `target_measure`; 0 means
    dense fine-tuning only. `max_quality_drop` is how many points (hundredths) of the task's metric may be lost: as much
    of `target_measure` is removed as that allows, found with `quality_candidates` cuts.

    `weights` and `flops` are counted over the transformer layers, `parameters` over the whole model; `latency` is the
    time of one forward pass over `latency_batch` rows of `latency_length` tokens on the job's device. Layers keep a
    multiple of `round_to` neurons where neurons are removed.

    `method` "auto" and fields left at None are settled by `pruning.planning.plan.resolve`, which also refuses what
    cannot be done.
    """

    max_quality_drop: float | None = Field(default=None, ge=0, le=100)
    target_ratio: float | None = Field(default=None, ge=0, lt=1, validate_default=True)
    quality_candidates: int | None = Field(default=None, ge=3, le=32)
    granularity: Annotated[str, AfterValidator(_granularity)] = "structured"
    method: str = Field(default="auto", max_length=64)
    settings: dict[str, Any] = Field(default_factory=dict)
    target_measure: Measure | None = None
    latency_batch: int | None = Field(default=None, ge=1, le=1024)
    latency_length: int | None = Field(default=None, ge=8, le=512)
    round_to: RoundTo | None = None
    task: Task | None = None
    columns: Columns = Columns()
    label_names: tuple[Annotated[str, Field(min_length=1, max_length=256)], ...] | None = None
    max_length: int = Field(default=128, ge=8, le=4096)
    doc_stride: int | None = Field(default=None, ge=1, le=2048)
    finetune: Finetune | bool | None = None
    recover: Recover | bool | None = None
    distill: Distill | bool = True
    allocation: Allocation = "global"
    evaluate: Evaluation = Evaluation()
    seed: int = Field(default=0, ge=0, lt=2**31)
    precision: Precision = "fp32"
    compile: bool = False
    checkpoint_seconds: float = Field(default=60.0, ge=5, le=3600)
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", validate_default=True)
    devices: int = Field(default=1, ge=1, le=64)

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
        """The ratio that is asked for, 0 where it is yet to be found for `max_quality_drop`."""
        return self.target_ratio or 0.0


EventType = Literal["phase", "progress", "metric", "warning", "checkpoint"]


@dataclass(frozen=True)
class Event:
    """One thing the engine says while it works. All data is JSON.

    phase {"phase"}; progress {"phase", "fraction" 0..1 of the whole job, "message", ...current metrics};
    metric {"name", "value", "step"}; warning {"code", "message"}; checkpoint {"step", "bytes"}.
    """

    type: EventType
    data: dict[str, Any] = field(default_factory=dict)


StopReason = Literal["cancel", "preempt"]

Events = Callable[[Event], None]
ShouldStop = Callable[[], StopReason | None]
"""None: go on. "cancel": leave at once. "preempt": save a checkpoint first, somebody continues it later."""
