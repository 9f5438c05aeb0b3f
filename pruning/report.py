"""What a finished job says about its result: `report.json`. Imports no torch."""

from typing import Any, Literal

from pydantic import Field

from pruning.spec import Measure, Model, PruneSpec

ResultKind = Literal["shrunk", "mixed", "zeros", "dense"]


class Quality(Model):
    """Metrics of the same rows before and after; `primary` names the one that stands for quality."""

    split: str
    rows: int
    primary: str
    before: dict[str, float]
    after: dict[str, float]
    pruned: dict[str, float] | None = Field(default=None, description="Right after pruning, before recovery.")
    lower_is_better: bool = Field(default=False, description="Whether a lower `primary` is the better one.")
    untrained: bool = Field(default=False, description="`before` is of a head that was never trained.")


class Size(Model):
    """Sizes of one model.

    `parameters` counts all of them, zeros included; `weights` the non-zero linear weights of the transformer
    layers; `flops` one forward pass of those layers over a row of mean length, removed units not counted;
    `bytes` the exported files.
    """

    parameters: int
    weights: int
    flops: float
    bytes: int


class LayerKept(Model):
    """What one layer kept: heads and neurons when units were removed, and the fraction of its weights."""

    heads: int
    of_heads: int
    neurons: int
    of_neurons: int
    weights: float


class Latency(Model):
    """Milliseconds of one forward pass, dense against pruned, in turns in one process with `threads` threads.

    `dense_ms` and `pruned_ms` are medians over `rounds` by the wall clock, `..._min_ms` the fastest rounds,
    and `..._cpu_ms` medians of the processor time, which a busy machine disturbs less. `speedup` and
    `cpu_speedup` are medians of the ratio dense / pruned of neighbouring passes.
    """

    batch_size: int
    sequence_length: int
    rounds: int
    threads: int
    dense_ms: float
    pruned_ms: float
    dense_min_ms: float
    pruned_min_ms: float
    speedup: float
    dense_cpu_ms: float
    pruned_cpu_ms: float
    cpu_speedup: float


class LoadCheck(Model):
    """The fresh-process check: largest difference of a logit from the model in memory, by way of loading."""

    differences: dict[str, float]
    parameters: dict[str, int]
    tolerance: float


class Stage(Model):
    """One training stage: optimizer steps, running mean of the loss at its end, settings."""

    steps: int
    loss: float
    settings: dict[str, Any]


class Notice(Model):
    """Something the reader should know; `code` is stable."""

    code: str
    message: str


class Report(Model):
    """Everything about a result that a person may want to check.

    `kind`: "shrunk" lost units and is smaller; "zeros" has the same shape with zeros in it, and is no faster
    unless the runtime uses them; "mixed" lost units and has zeros in what is left; "dense" was only fine-tuned.
    `delivered` is the removed fraction by measure, counted on the exported files. `hashes` are sha256 by
    "model/FILE", "dataset/FILE" and "artifact/FILE".
    """

    kind: ResultKind
    spec: PruneSpec
    plan: dict[str, Any]
    method: str
    asked: float
    measure: Measure
    delivered: dict[Measure, float]
    quality: Quality
    before: Size
    after: Size
    layers: tuple[LayerKept, ...]
    latency: tuple[Latency, ...]
    load_check: LoadCheck
    equality: float | None = Field(
        default=None, description="Largest difference of a logit between the zeroed and the shrunk model."
    )
    stages: dict[str, Stage]
    details: dict[str, Any]
    warnings: tuple[Notice, ...]
    seed: int
    device: str
    mean_length: float
    versions: dict[str, str]
    hashes: dict[str, str]
    seconds: dict[str, float]
    peak_memory_bytes: int
