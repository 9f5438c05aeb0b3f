"""The trainings of a job, each from files to a model in memory: what every process that takes part does alike."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from transformers import PreTrainedModel, set_seed

from pruning.events import Phase
from pruning.masking.fill import fill
from pruning.masking.hybrid import shrink_masks
from pruning.masking.masks import attach_weight_masks
from pruning.methods import Context, Outcome, create
from pruning.model.shrink import shrink
from pruning.options import Distill, Training
from pruning.planning.costs import Kept
from pruning.steps.job import Job
from pruning.training.group import Group
from pruning.training.train import FitResult, fit

MODEL = "model"
MASKS = "masks.safetensors"
PRUNE = "prune"
MEASURED = "measured"
"""Names the folder of what a method measured of the dense model for all cuts of a search."""


def dense_dir(job: Job) -> Path:
    """The folder of the dense model that is pruned: the given one, or what fine-tuning made of it."""
    tuned = isinstance(job.spec.finetune, Training)
    return job.steps.path("finetune") / MODEL if tuned else job.model_dir


def zeroed_dir(job: Job, name: str = PRUNE) -> Path:
    """Where the model lies whose dropped units and weights are zero, in the folder of the step `name`."""
    return job.steps.path(name) / MODEL


def load_outcome(job: Job, name: str = PRUNE) -> Outcome:
    """What the method decided, when the step `name` is done."""
    result = job.steps.load(name)
    kept = None if result["kept"] is None else Kept.model_validate(result["kept"])
    masks = load_file(job.steps.path(name) / MASKS)
    return Outcome(kept, masks or None, result["details"])


def pruned_model(job: Job, outcome: Outcome) -> PreTrainedModel:
    """The model right after pruning, without the units that were removed, on the device."""
    model = job.load(zeroed_dir(job))
    if outcome.kept is not None:
        shrink(model, outcome.kept)
    return model


def final_masks(model: PreTrainedModel, outcome: Outcome) -> dict[str, Any] | None:
    """The masks on the weights of the result, in its own shapes: without the rows and columns of removed units."""
    if outcome.kept is None or outcome.weight_masks is None:
        return outcome.weight_masks
    return shrink_masks(model, outcome.weight_masks, outcome.kept)


def train_dense(job: Job, group: Group) -> tuple[PreTrainedModel, FitResult]:
    """Fine-tune the given model."""
    model = job.load(job.model_dir)
    return model, _train(job, model, job.spec.finetune, "finetune", "finetuning", None, None, group)


def run_method(job: Job, group: Group, name: str = PRUNE) -> tuple[PreTrainedModel, Outcome]:
    """Let the method choose, by training or without, as the step `name`; the model comes back baked."""
    set_seed(job.spec.seed)
    dense = dense_dir(job)
    context = Context(
        spec=job.spec,
        plan=job.plan,
        shape=job.plan.shape,
        model=job.load(dense),
        task=job.trained_task,
        train=job.data.train,
        teacher_dir=job.teacher(dense),
        device=job.device,
        work=job.scratch(name),
        events=job.progress.events,
        should_stop=job.progress.should_stop,
        span=job.progress.span,
        mean_length=job.data.train.mean_length,
        table=job.table,
        found=job.found,
        shared=None if job.found is None else job.scratch(MEASURED),
        group=group,
    )
    context.work.mkdir(parents=True, exist_ok=True)
    outcome = create(job.plan.method, job.spec.settings).prune(context)
    return context.model, outcome


def train_pruned(job: Job, group: Group) -> tuple[PreTrainedModel, FitResult, int]:
    """Fine-tune what is left; dropped units stay dropped, and so do weights unless they are filled.

    The last of the result is how many weights were filled.
    """
    outcome = load_outcome(job)
    model = pruned_model(job, outcome)
    zeros, filled = final_masks(model, outcome), 0
    if zeros and job.spec.fills:
        filled, zeros = fill(model, zeros, job.spec.seed), None
    masks = attach_weight_masks(model, zeros) if zeros else None
    teacher_dir = job.teacher(dense_dir(job))
    teacher = None if teacher_dir is None else job.load(teacher_dir)
    kept_heads = None if outcome.kept is None else outcome.kept.heads
    result = _train(job, model, job.spec.recover, "recover", "recovering", teacher, kept_heads, group)
    if masks is not None:
        masks.bake(model)
    return model, result, filled


TRAININGS: Mapping[str, Callable[[Job, Group], Any]] = {
    "finetune": train_dense,
    PRUNE: run_method,
    "recover": train_pruned,
}
"""By the name of the step whose result each of them is."""


def _train(
    job: Job,
    model: PreTrainedModel,
    options: Any,
    name: str,
    phase: Phase,
    teacher: PreTrainedModel | None,
    kept_heads: Sequence[Sequence[int]] | None,
    group: Group,
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
        group=group,
    )
