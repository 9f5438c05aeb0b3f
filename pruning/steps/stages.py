"""The steps of a job that change or judge the model. A step whose whole result is there is skipped.

Every step starts from files, also when the step before ran in the same process: so a resumed job computes the
same as one that ran through.
"""

import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_file, save_model
from torch import Tensor
from transformers import PreTrainedModel

from pruning.delivery.count import tensor_bytes
from pruning.delivery.load_check import TOLERANCE
from pruning.errors import ArtifactBroken
from pruning.events import Event
from pruning.methods import METHODS, Outcome
from pruning.model.depth import bypassed
from pruning.model.layers import prunable_linears
from pruning.options import Training
from pruning.planning.costs import Kept
from pruning.steps.crew import Crew
from pruning.steps.job import Job, json_of
from pruning.steps.trained import (
    MASKS,
    MODEL,
    PRUNE,
    dense_dir,
    load_outcome,
    pruned_model,
    run_method,
    train_dense,
    train_pruned,
    zeroed_dir,
)
from pruning.training.evaluate import evaluate
from pruning.training.group import ALONE
from pruning.training.tasks import Batch, Encoded

_RECOVERED = "recovered.safetensors"
_PROBE_ROWS = 32
_PROBE_LOGITS = 2_000_000
"""How many logits are compared at most where each token has one for every word; they are written as JSON."""


def finetune(job: Job, crew: Crew) -> Path:
    """Fine-tune the given model when planned; returns the folder of the dense model that is pruned."""
    if isinstance(job.spec.finetune, Training) and not job.steps.done("finetune"):
        with job.progress.step("finetune", "finetuning"):
            with crew.training("finetune") as group:
                model, result = train_dense(job, group)
            job.steps.save("finetune", asdict(result), lambda folder: model.save_pretrained(folder / MODEL))
            shutil.rmtree(job.scratch("finetune"), ignore_errors=True)
    return dense_dir(job)


def judge(
    job: Job, name: str, load: Callable[[], PreTrainedModel], rows: Encoded | None = None
) -> dict[str, Any]:
    """Evaluate a model on the evaluation rows, or on other `rows`.

    The result holds its `metrics`, `parameters`, `bytes`, and the `weights` of its layers that are not zero.
    """
    if job.steps.done(name):
        return job.steps.load(name)
    with job.progress.step(name, "evaluating"):
        model = load()
        found = evaluate(
            model,
            job.data.evaluation if rows is None else rows,
            job.task,
            device=job.device,
            should_stop=job.progress.should_stop,
            on_progress=job.progress.at,
        )
        result = {
            "metrics": found.metrics,
            "parameters": model.num_parameters(),
            "weights": sum(int(linear.weight.count_nonzero()) for linear in prunable_linears(model).values()),
            "bytes": tensor_bytes(model),
        }
        job.steps.save(name, result)
        for metric, value in found.metrics.items():
            job.progress.events(Event("metric", {"name": f"{name}/{metric}", "value": value, "step": 0}))
    return result


def prune_model(job: Job, crew: Crew, name: str = PRUNE) -> Outcome:
    """Let the method choose and zero what is dropped; the zeroed model lies in the folder of the step `name`."""
    if not job.steps.done(name):
        with job.progress.step(name, "pruning"):
            trains = METHODS[job.plan.method].needs_training
            with crew.training(PRUNE) if trains else nullcontext(ALONE) as group:
                model, outcome = run_method(job, group, name)
            _save_outcome(job, name, model, outcome)
            shutil.rmtree(job.scratch(name), ignore_errors=True)
    return load_outcome(job, name)


def _save_outcome(job: Job, name: str, model: PreTrainedModel, outcome: Outcome) -> None:
    def fill(folder: Path) -> None:
        model.save_pretrained(folder / MODEL)
        save_file(_contiguous(outcome.weight_masks), folder / MASKS)

    kept = None if outcome.kept is None else json_of(outcome.kept)
    job.steps.save(name, {"kept": kept, "details": outcome.details}, fill)


def mask_tensors(job: Job, outcome: Outcome) -> dict[str, Tensor]:
    """What is kept, as bool, in shapes of the dense model.

    Where there are zeros, by parameter; where units were removed, `layers.I.heads` and `layers.I.neurons`.
    """
    masks = _contiguous(outcome.weight_masks)
    if outcome.kept is None:
        return masks
    shape = job.plan.shape
    for index, (heads, neurons) in enumerate(zip(outcome.kept.heads, outcome.kept.neurons, strict=True)):
        masks[f"layers.{index}.heads"] = torch.isin(torch.arange(shape.heads), torch.tensor(heads))
        masks[f"layers.{index}.neurons"] = torch.isin(torch.arange(shape.ffn), torch.tensor(neurons))
    return masks


def _contiguous(masks: dict[str, Tensor] | None) -> dict[str, Tensor]:
    """Masks as a file can hold them."""
    return {name: mask.bool().cpu().contiguous() for name, mask in (masks or {}).items()}


def recover(job: Job, crew: Crew, outcome: Outcome) -> Outcome:
    """Fine-tune what is left when planned; dropped units stay dropped, and so do weights unless they are filled.

    Returns the outcome of the job: where weights were filled, without masks on them.
    """
    if isinstance(job.spec.recover, Training) and not job.steps.done("recover"):
        _recover(job, crew)
    if not job.spec.fills:
        return outcome
    details = outcome.details | {"filled": job.steps.load("recover")["filled"]}
    return replace(outcome, weight_masks=None, details=details)


def _recover(job: Job, crew: Crew) -> None:
    with job.progress.step("recover", "recovering"):
        with crew.training("recover") as group:
            model, result, filled = train_pruned(job, group)
        told = asdict(result) | {"filled": filled}
        job.steps.save("recover", told, lambda folder: save_model(model, str(folder / _RECOVERED)))
        shutil.rmtree(job.scratch("recover"), ignore_errors=True)


def final_model(job: Job, dense: Path, outcome: Outcome | None) -> PreTrainedModel:
    """The result, on the device: dense, with zeros, or shrunk; recovered when planned."""
    if outcome is None:
        return job.load(dense)
    model = pruned_model(job, outcome)
    if job.steps.done("recover"):
        load_model(model, job.steps.path("recover") / _RECOVERED)
    return model


def check_shrunk(job: Job, outcome: Outcome) -> float | None:
    """Largest difference of a logit between the zeroed and the shrunk model, on the CPU.

    Layers cannot be zeroed: where some are gone, it is the dense model that passes them by. None when nothing is
    removed. Raises ArtifactBroken when it is more than rounding.
    """
    if outcome.kept is None:
        return None
    if not job.steps.done("shrink"):
        with job.progress.step("shrink", "evaluating"):
            batch = probe(job)
            zeroed = _zeroed_logits(job, outcome.kept, batch)
            difference = float((zeroed - logits(pruned_model(job, outcome), batch)).abs().max())
            if not difference <= TOLERANCE * max(1.0, float(zeroed.abs().max())):
                raise ArtifactBroken(f"Shrinking changes the answers: logits differ by {difference:.3g}.")
            job.steps.save("shrink", {"difference": difference})
    found: float = job.steps.load("shrink")["difference"]
    return found


def _zeroed_logits(job: Job, kept: Kept, batch: Batch) -> Tensor:
    if kept.layers is None:
        return logits(job.load(zeroed_dir(job)), batch)
    dense = job.load(dense_dir(job))
    with bypassed(dense, kept.layers):
        return logits(dense, batch)


def probe(job: Job) -> Batch:
    """A few evaluation rows as one batch, for comparing models; of text fewer and shorter ones."""
    rows = job.data.evaluation
    if job.plan.task != "causal-lm":
        return rows.batch(range(min(_PROBE_ROWS, len(rows))))
    batch = rows.batch(range(min(2, len(rows))))
    tokens = max(8, _PROBE_LOGITS // (2 * len(job.tokenizer)))
    return {name: values[:, :tokens] for name, values in batch.items()}


def logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    """All logits (rows, logits) in fp32 on the CPU, which leaves the model there.

    One after the other: those of every token, those of starts and of ends.
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.inference_mode():
        outputs = model.cpu().eval()(**inputs)
    return torch.cat([found.flatten(1) for name, found in outputs.items() if name.endswith("logits")], dim=1)
