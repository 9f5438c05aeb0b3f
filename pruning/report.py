"""What a finished job says about its result: `report.json`. Imports no torch."""

from typing import Any, Literal

from pydantic import Field

from pruning.options import Model
from pruning.planning.latency import LatencyTable
from pruning.spec import Measure, PruneSpec

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


class Kernels(Model):
    """The result on the device's 2:4 kernels, in half precision: so many linears on them, against the dense model.

    A plain load does not use them: `kind` stays "zeros".
    """

    linears: int
    of_linears: int
    latency: tuple[Latency, ...]


class OnnxLatency(Model):
    """Milliseconds of one forward pass on the CPU, torch against onnxruntime, in turns in one process.

    Medians over `rounds` by the wall clock; `speedup` is the median of the ratio torch / onnx of neighbouring passes.
    """

    batch_size: int
    sequence_length: int
    rounds: int
    threads: int
    torch_ms: float
    onnx_ms: float
    speedup: float


class OnnxExport(Model):
    """The ONNX file of a result: `inputs` are int64 (rows, tokens), any number of either; `outputs` are its logits.

    `differences` are the largest differences of a logit from torch's, by "rows x tokens" of the batches that were
    compared, padded ones among them; `longest` is the most tokens that the model can read. `files` are the sha256 of
    what lies in `onnx/`, `bytes` the size of that.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int
    longest: int
    files: dict[str, str]
    bytes: int
    differences: dict[str, float]
    latency: tuple[OnnxLatency, ...]
    versions: dict[str, str]


class VocabularyKept(Model):
    """How many tokens of a vocabulary are left, and how many texts of the dataset become the same tokens as before."""

    tokens: int
    of_tokens: int
    texts: int


class LatencyResult(Model):
    """How a target of the latency was met: fractions removed, asked, as the table promised, and as measured.

    `asked_ms` and `predicted_ms` go with the `dense_ms` of the table; `dense_ms` and `measured_ms` here were timed in
    turns at the end. `missed` says that the measured part of the dense latency is more than `tolerance` above the asked
    part.
    """

    table: LatencyTable
    asked: float
    predicted: float
    measured: float
    asked_ms: float
    predicted_ms: float
    dense_ms: float
    measured_ms: float
    tolerance: float
    missed: bool


class Candidate(Model):
    """One cut that was tried: the ratio of the target measure, and the quality it had, `drop` points below the dense.

    `weights` counts the non-zero linear weights of the layers. `within` says that the drop is no more than was allowed.
    """

    ratio: float
    quality: float
    drop: float
    weights: int
    within: bool


class Search(Model):
    """How the largest cut was found that loses at most `max_drop` points.

    Quality is the task's own metric on `rows` rows of `split` that the reported quality does not use. `chosen` is the
    largest ratio that was within; no candidate above it was, unless it is as near to `reach`, the most that can be
    removed, as the number of candidates allows. `candidates` are in the order in which they were tried, `frontier` has
    those of them that no larger cut matches in quality, smallest first.
    """

    max_drop: float
    split: str
    rows: int
    primary: str
    dense: float
    reach: float
    chosen: float
    candidates: tuple[Candidate, ...]
    frontier: tuple[Candidate, ...] = ()


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
    `asked` is the target ratio, or what `search` or the dataset's tokens gave in its place. `delivered` is the removed
    fraction by measure, counted on the exported files: `weights` and `flops` of the layers, `parameters` of the whole
    model with its embeddings, norms, biases and head (zeros count as removed); and `latency`, measured, where it was
    the target. `target_missed` says that this one is missed by more than is allowed. `hashes` are sha256 by
    "model/FILE", "dataset/FILE" and "artifact/FILE".
    """

    kind: ResultKind
    spec: PruneSpec
    plan: dict[str, Any]
    method: str
    asked: float
    measure: Measure
    delivered: dict[Measure, float]
    target_missed: bool = False
    latency_target: LatencyResult | None = None
    search: Search | None = None
    quality: Quality
    before: Size
    after: Size
    layers: tuple[LayerKept, ...]
    latency: tuple[Latency, ...]
    load_check: LoadCheck
    equality: float | None = Field(
        default=None, description="Largest difference of a logit between the zeroed and the shrunk model."
    )
    kernels: Kernels | None = Field(
        default=None, description="Of granularity 2:4, where the worker's device has kernels for it."
    )
    onnx: OnnxExport | None = Field(default=None, description="Where the request's `exports` name it.")
    vocabulary: VocabularyKept | None = Field(default=None, description="Of granularity vocabulary.")
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
