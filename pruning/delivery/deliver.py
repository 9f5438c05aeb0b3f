"""The last steps of a job: export, check what was exported, and write the report."""

import re
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from pruning.delivery.card import card
from pruning.delivery.count import count
from pruning.delivery.export import export
from pruning.delivery.load_check import check
from pruning.methods import Outcome
from pruning.options import Training
from pruning.planning.costs import total_cost
from pruning.planning.families import AUTO_CLASSES
from pruning.report import (
    Kernels,
    Latency,
    LatencyResult,
    LoadCheck,
    OnnxExport,
    Quality,
    Report,
    Search,
    Size,
    Stage,
    VocabularyKept,
)
from pruning.steps.checkpoint import file_sha256, write_atomic
from pruning.steps.job import Job, json_of
from pruning.steps.stages import final_model, logits, mask_tensors, probe
from pruning.steps.trained import MASKS, MODEL, final_masks

Result = dict[str, Any]


def export_model(job: Job, dense_dir: Path, outcome: Outcome | None) -> Result:
    """Write `model/`, load it in a fresh process, and count what it holds; raises ArtifactBroken."""
    folder = job.out / MODEL
    if job.steps.done("export") and job.steps.load("export")["files"] == _hashes(folder):
        return job.steps.load("export")
    with job.progress.step("export", "exporting"):
        model = final_model(job, dense_dir, outcome)
        batch = probe(job)
        expected = logits(model, batch)
        kept, masks = (None, None) if outcome is None else (outcome.kept, final_masks(model, outcome))
        export(model, job.tokenizer, job.plan.shape, kept, job.spec.allocation, folder)
        job.progress.check()
        inputs = {name: value.tolist() for name, value in batch.items() if name != "labels"}
        auto_class = AUTO_CLASSES[job.plan.task]
        loaded = check(folder, inputs, expected.tolist(), auto_class, should_stop=job.progress.beat)
        counted = count(folder, job.plan, kept, masks, job.ratio)
        result = {
            "files": _hashes(folder),
            "load_check": json_of(loaded),
            "weights": counted.weights,
            "flops": counted.flops,
            "bytes": counted.bytes,
            "removed": counted.removed,
            "layers": [json_of(layer) for layer in counted.layers],
        }
        job.steps.save("export", result)
    return result


@dataclass(frozen=True)
class Results:
    """What the steps before found. `pruned` is the quality before recovery.

    `target` is how a latency that was asked for was met, `search` how the ratio was found where it was left open,
    `onnx` the ONNX file that was asked for, `kernels` what 2:4 zeros bring on this device, `vocabulary` how many tokens
    stayed where only tokens went.
    """

    before: Result
    after: Result
    exported: Result
    pruned: Result | None = None
    equality: float | None = None
    latency: tuple[Latency, ...] = ()
    target: LatencyResult | None = None
    search: Search | None = None
    onnx: OnnxExport | None = None
    kernels: Kernels | None = None
    vocabulary: VocabularyKept | None = None


def deliver(
    job: Job, outcome: Outcome | None, results: Results, masks: Mapping[str, Tensor] = MappingProxyType({})
) -> Report:
    """Write masks, plan, model card and report beside the model; returns the report.

    `masks` say what is kept where that is no `outcome` of a method.
    """
    masks = dict(masks) if outcome is None else mask_tensors(job, outcome)
    save_file(masks, job.out / f".{MASKS}")
    (job.out / f".{MASKS}").replace(job.out / MASKS)
    write_atomic(job.out / "plan.json", job.plan.model_dump_json(indent=2) + "\n")
    before, exported, pruned, target = results.before, results.exported, results.pruned, results.target
    checked = LoadCheck.model_validate(exported["load_check"])
    shape, length = job.plan.shape, job.plan.length
    report = Report(
        kind=job.plan.kind,
        spec=job.spec,
        plan=json_of(job.plan),
        method=job.plan.method,
        asked=job.ratio,
        measure=job.plan.target_measure,
        delivered=exported["removed"] | ({"latency": target.measured} if target else {}),
        target_missed=target is not None and target.missed,
        latency_target=target,
        search=results.search,
        quality=Quality(
            split=job.data.split,
            rows=job.data.evaluation.examples,
            primary=job.task.primary,
            lower_is_better=job.task.lower_is_better,
            before=before["metrics"],
            pruned=None if pruned is None else pruned["metrics"],
            after=results.after["metrics"],
            untrained=not job.task.labels.trained and not job.spec.prunes,
        ),
        before=Size(
            parameters=before["parameters"],
            weights=round(total_cost(shape, "weights", length)),
            flops=total_cost(shape, "flops", length),
            bytes=before["bytes"],
        ),
        after=Size(
            parameters=min(checked.parameters.values()),
            weights=exported["weights"],
            flops=exported["flops"],
            bytes=exported["bytes"],
        ),
        layers=exported["layers"],
        latency=results.latency,
        load_check=checked,
        equality=results.equality,
        kernels=results.kernels,
        onnx=results.onnx,
        vocabulary=results.vocabulary,
        stages=_stages(job),
        details={} if outcome is None else outcome.details,
        warnings=job.plan.warnings,
        seed=job.spec.seed,
        device=_device_name(job.device),
        mean_length=length,
        versions=job.versions,
        hashes=job.hashes | {f"artifact/{name}": digest for name, digest in exported["files"].items()},
        seconds={phase: round(seconds, 3) for phase, seconds in job.progress.seconds.items()},
        peak_memory_bytes=_peak_memory(job.device),
    )
    write_atomic(job.out / "README.md", card(report))
    write_atomic(job.out / "report.json", report.model_dump_json(indent=2) + "\n")
    return report


def _stages(job: Job) -> dict[str, Stage]:
    stages = {}
    for name, options in (("finetune", job.spec.finetune), ("recover", job.spec.recover)):
        if isinstance(options, Training):
            result = job.steps.load(name)
            stages[name] = Stage(steps=result["steps"], loss=result["loss"], settings=json_of(options))
    return stages


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _peak_memory(device: torch.device) -> int:
    """Peak bytes of this process on the device."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":
        # Not getrusage: what it says begins with the peak of the process that started this one.
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
        if found is not None:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: file_sha256(path) for path in sorted(folder.glob("*")) if path.is_file()}
