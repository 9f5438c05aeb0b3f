"""Training that resumes bit for bit, for fine-tuning, for methods that learn what to prune, and for recovery."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, TrainingArguments

from pruning.errors import Canceled
from pruning.events import Events, Phase, ShouldStop
from pruning.options import Distill, Training
from pruning.spec import Precision
from pruning.steps.checkpoint import checkpoint_step, key_of, newest_checkpoint
from pruning.training.compiled import compiled
from pruning.training.distill import Distillation
from pruning.training.group import ALONE, Group
from pruning.training.tasks import Encoded, Task
from pruning.training.trainer import PruningTrainer, TrainingExtension
from pruning.training.watch import Watch

__all__ = ["FitResult", "TrainingExtension", "fit"]

_MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class FitResult:
    """What a training stage did: `steps` optimizer steps, those after `resumed_from` in this process.

    `loss` is the running mean of the task loss at the end; `seconds` is this process's wall time.
    """

    steps: int
    loss: float
    seconds: float
    resumed_from: int


def fit(
    model: PreTrainedModel,
    task: Task,
    train: Encoded,
    options: Training,
    *,
    seed: int,
    precision: Precision,
    device: torch.device,
    work: Path,
    events: Events,
    should_stop: ShouldStop,
    phase: Phase,
    span: tuple[float, float],
    teacher: PreTrainedModel | None = None,
    distill: Distill | None = None,
    kept_heads: Sequence[Sequence[int]] | None = None,
    extension: TrainingExtension | None = None,
    compile: bool = False,
    checkpoint_seconds: float = 60.0,
    group: Group = ALONE,
) -> FitResult:
    """Train `model` in place on the rows of `train`; resumes from the newest whole checkpoint in `work`.

    AdamW, linear warm-up and decay, gradients of the weights clipped to norm 1. With a teacher and `distill`
    the loss is the distillation loss; `kept_heads` are the heads that each layer of a shrunk model has left. A
    checkpoint is written every `checkpoint_seconds`. `span` is this stage's part (start, end) of the job's
    progress. The trained model is left in eval mode on `device`.

    The processes of a `group` call this alike, each with a copy of everything, and share each batch; the first one
    alone writes checkpoints. They take the steps that one process would take, but for rounding and dropout.

    Raises Canceled when `should_stop` says so (after saving a checkpoint when it says "preempt"), and
    PruningError with code `training_diverged` when the loss is not finite.
    """
    started = time.monotonic()
    arguments = _arguments(options, seed, precision, device, work)
    arguments.use_cache = getattr(model.config, "use_cache", False)  # else the Trainer changes the config
    patience = checkpoint_seconds if group.rank == 0 else math.inf
    watch = Watch(events, should_stop, phase, span, extension, patience)
    stage = (options.model_dump(mode="json"), distill and distill.model_dump(mode="json"))
    key = key_of(*stage, phase, seed, precision, compile, len(train), group.size)
    newest = newest_checkpoint(work, key)
    distillation = None
    if teacher is not None and distill is not None:
        student, teacher = model.to(device), teacher.to(device)
        distillation = Distillation(student, teacher, distill, seed=seed, kept=kept_heads, group=group)
    with (
        distillation.attached() if distillation else nullcontext(),
        compiled(model) if compile else nullcontext(),
        _trainer(model, arguments, task, train, watch, key, distillation, extension, group) as trainer,
    ):
        trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
    if watch.preempted:
        raise Canceled(f"Preempted while {phase} at step {trainer.state.global_step}; a checkpoint is saved.")
    group.check_alike(model.parameters())
    model.eval()
    return FitResult(
        steps=trainer.state.global_step,
        loss=watch.loss,
        seconds=time.monotonic() - started,
        resumed_from=0 if newest is None else checkpoint_step(newest),
    )


@contextmanager
def _trainer(
    model: PreTrainedModel,
    arguments: TrainingArguments,
    task: Task,
    train: Encoded,
    watch: Watch,
    key: str,
    distillation: Distillation | None,
    extension: TrainingExtension | None,
    group: Group,
) -> Iterator[PruningTrainer]:
    """A trainer that leaves the model as it was, but for its weights."""
    trainer = PruningTrainer(model, arguments, task, train, watch, key, distillation, extension, group)
    try:
        yield trainer
    finally:
        # Autocast wraps `forward`; later stages must see the model as it was.
        trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        vars(model).pop("forward", None)
        trainer.accelerator.free_memory()


def _arguments(
    options: Training, seed: int, precision: Precision, device: torch.device, work: Path
) -> TrainingArguments:
    arguments = TrainingArguments(
        output_dir=str(work),
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        num_train_epochs=options.epochs,
        max_steps=options.max_steps or -1,
        warmup_steps=options.warmup_fraction,
        lr_scheduler_type="linear",
        max_grad_norm=_MAX_GRADIENT_NORM,
        seed=seed,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
        logging_nan_inf_filter=False,
    )
    # However many the machine has, a process computes on one; the Trainer would spread the model over all.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    return arguments
