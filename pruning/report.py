"""What a finished job says about its result: `report.json`. Imports no torch."""

from typing import Any, Literal

from pydantic import Field

from pruning.spec import Measure, Model, PruneSpec

ResultKind = Literal["shrunk", "zeros", "dense"]


class Quality(Model):
    """Metrics of the same evaluation rows before and after; `primary` names the one that stands for quality."""

    split: str
    rows: int
    primary: str
    before: dict[str, float]
    after: dict[str, float]
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
    """Milliseconds of one forward pass, dense against pruned, interleaved in one process: medians over rounds.

    `clock` is "wall" or "cpu" (process time on one thread). `speedup` is dense / pruned.
    """

    batch_size: int
    sequence_length: int
    clock: str
    dense_ms: float
    pruned_ms: float
    speedup: float


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
    unless the runtime uses them; "dense" was only fine-tuned. `delivered` is the removed fraction by measure,
    counted on the exported files. `hashes` are sha256 by "model/FILE", "dataset/FILE" and "artifact/FILE".
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
    layers: list[LayerKept]
    latency: list[Latency]
    load_check: LoadCheck
    equality: float | None = Field(
        default=None, description="Largest difference of a logit between the zeroed and the shrunk model."
    )
    stages: dict[str, Stage]
    details: dict[str, Any]
    warnings: list[Notice]
    seed: int
    device: str
    mean_length: float
    versions: dict[str, str]
    hashes: dict[str, str]
    seconds: dict[str, float]
    peak_memory_bytes: int
