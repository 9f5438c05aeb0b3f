"""The steps of a job that change or judge the model. A step whose whole result is there is skipped.

Every step starts from files, also when the step before ran in the same process: so a resumed job computes the
same as one that ran through.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor
from transformers import PreTrainedModel, set_seed

from pruning.delivery.load_check import TOLERANCE
from pruning.errors import ArtifactBroken
from pruning.masking.hybrid import shrink_masks
from pruning.masking.masks import attach_weight_masks
from pruning.methods import Context, Outcome, create
from pruning.model.layers import prunable_linears
from pruning.model.shrink import shrink
from pruning.planning.costs import Kept
from pruning.spec import Distill, Event, Phase, Training
from pruning.steps.job import Job, json_of
from pruning.training.evaluate import evaluate
from pruning.training.tasks import Batch, Encoded
from pruning.training.train import FitResult, fit

MODEL = "model"
MASKS = "masks.safetensors"
PRUNE = "prune"
_RECOVERED = "recovered.safetensors"
_PROBE_ROWS = 32


def finetune(job: Job) -> Path:
    """Fine-tune the given model when planned; returns the folder of the dense model that is pruned."""
    options = job.spec.finetune
    if not isinstance(options, Training):
        return job.model_dir
    if not job.steps.done("finetune"):
        with job.progress.step("finetune", "finetuning"):
            model = job.load(job.model_dir)
            result = _train(job, model, options, "finetune", "finetuning", teacher=None)
            job.steps.save("finetune", asdict(result), lambda folder: model.save_pretrained(folder / MODEL))
            shutil.rmtree(job.scratch("finetune"), ignore_errors=True)
    return job.steps.path("finetune") / MODEL


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
            "bytes": sum(tensor.nbytes for tensor in model.state_dict().values()),
        }
        job.steps.save(name, result)
        for metric, value in found.metrics.items():
            job.progress.events(Event("metric", {"name": f"{name}/{metric}", "value": value, "step": 0}))
    return result


def prune_model(job: Job, dense_dir: Path, name: str = PRUNE) -> Outcome:
    """Let the method choose and zero what is dropped; the zeroed model lies in the folder of the step `name`."""
    if not job.steps.done(name):
        with job.progress.step(name, "pruning"):
            set_seed(job.spec.seed)
            context = Context(
                spec=job.spec,
                plan=job.plan,
                shape=job.plan.shape,
                model=job.load(dense_dir),
                task=job.trained_task,
                train=job.data.train,
                teacher_dir=job.teacher(dense_dir),
                device=job.device,
                work=job.scratch(name),
                events=job.progress.events,
                should_stop=job.progress.should_stop,
                span=job.progress.span,
                mean_length=job.data.train.mean_length,
                table=job.table,
                found=job.found,
            )
            context.work.mkdir(parents=True, exist_ok=True)
            outcome = create(job.plan.method, job.spec.settings).prune(context)
            _save_outcome(job, name, context.model, outcome)
            shutil.rmtree(context.work, ignore_errors=True)
    result = job.steps.load(name)
    kept = None if result["kept"] is None else Kept.model_validate(result["kept"])
    masks = load_file(job.steps.path(name) / MASKS)
    return Outcome(kept, masks or None, result["details"])


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


def zeroed_dir(job: Job, name: str = PRUNE) -> Path:
    """Where the model lies whose dropped units and weights are zero."""
    return job.steps.path(name) / MODEL


def recover(job: Job, dense_dir: Path, outcome: Outcome) -> None:
    """Fine-tune what is left when planned; dropped units and weights stay dropped."""
    options = job.spec.recover
    if not isinstance(options, Training) or job.steps.done("recover"):
        return
    with job.progress.step("recover", "recovering"):
        model = _pruned(job, outcome)
        zeros = final_masks(model, outcome)
        masks = attach_weight_masks(model, zeros) if zeros else None
        teacher_dir = job.teacher(dense_dir)
        teacher = None if teacher_dir is None else job.load(teacher_dir)
        kept_heads = None if outcome.kept is None else outcome.kept.heads
        result = _train(job, model, options, "recover", "recovering", teacher, kept_heads)
        if masks is not None:
            masks.bake(model)
        job.steps.save("recover", asdict(result), lambda folder: save_model(model, str(folder / _RECOVERED)))
        shutil.rmtree(job.scratch("recover"), ignore_errors=True)


def final_model(job: Job, dense_dir: Path, outcome: Outcome | None) -> PreTrainedModel:
    """The result, on the device: dense, with zeros, or shrunk; recovered when planned."""
    if outcome is None:
        return job.load(dense_dir)
    model = _pruned(job, outcome)
    if job.steps.done("recover"):
        load_model(model, job.steps.path("recover") / _RECOVERED)
    return model


def final_masks(model: PreTrainedModel, outcome: Outcome) -> dict[str, Tensor] | None:
    """The masks on the weights of the result, in its own shapes: without the rows and columns of removed heads."""
    if outcome.kept is None or outcome.weight_masks is None:
        return outcome.weight_masks
    return shrink_masks(model, outcome.weight_masks, outcome.kept)


def check_shrunk(job: Job, outcome: Outcome) -> float | None:
    """Largest difference of a logit between the zeroed and the shrunk model, on the CPU.

    None when nothing is removed. Raises ArtifactBroken when it is more than rounding.
    """
    if outcome.kept is None:
        return None
    if not job.steps.done("shrink"):
        with job.progress.step("shrink", "evaluating"):
            batch = probe(job)
            zeroed = logits(job.load(zeroed_dir(job)), batch)
            difference = float((zeroed - logits(_pruned(job, outcome), batch)).abs().max())
            if not difference <= TOLERANCE * max(1.0, float(zeroed.abs().max())):
                raise ArtifactBroken(f"Shrinking changes the answers: logits differ by {difference:.3g}.")
            job.steps.save("shrink", {"difference": difference})
    found: float = job.steps.load("shrink")["difference"]
    return found


def probe(job: Job) -> Batch:
    """A few evaluation rows as one batch, for comparing models."""
    return job.data.evaluation.batch(range(min(_PROBE_ROWS, len(job.data.evaluation))))


def logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    """All logits (rows, logits) in fp32 on the CPU, which leaves the model there.

    One after the other: those of every token, those of starts and of ends.
    """
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    with torch.inference_mode():
        outputs = model.cpu().eval()(**inputs)
    return torch.cat([found.flatten(1) for name, found in outputs.items() if name.endswith("logits")], dim=1)


def _pruned(job: Job, outcome: Outcome) -> PreTrainedModel:
    model = job.load(zeroed_dir(job))
    if outcome.kept is not None:
        shrink(model, outcome.kept)
    return model


def _train(
    job: Job,
    model: PreTrainedModel,
    options: Training,
    name: str,
    phase: Phase,
    teacher: PreTrainedModel | None,
    kept_heads: Sequence[Sequence[int]] | None = None,
) -> FitResult:
    return fit(
        model,
        job.task,
        job.data.train,
        options,
        seed=job.spec.seed,
        precision=job.spec.precision,
        device=job.device,
        work=job.scratch(name),
        events=job.progress.events,
        should_stop=job.progress.should_stop,
        phase=phase,
        span=job.progress.span,
        teacher=teacher,
        distill=job.spec.distill if isinstance(job.spec.distill, Distill) else None,
        kept_heads=kept_heads,
        compile=job.spec.compile,
        checkpoint_seconds=job.spec.checkpoint_seconds,
    )
