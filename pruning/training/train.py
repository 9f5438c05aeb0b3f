"""Training that resumes bit for bit: a transformers Trainer that learned methods extend."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from pruning.errors import Canceled, PruningError
from pruning.spec import Distill, Events, Phase, ShouldStop, Training
from pruning.steps.checkpoint import (
    atomic_folder,
    checkpoint_path,
    checkpoint_step,
    checkpoints,
    key_of,
    newest_checkpoint,
)
from pruning.training.batches import LengthGroupedSampler
from pruning.training.distill import distillation_loss
from pruning.training.tasks import Encoded, Task
from pruning.training.watch import Watch

_MAX_GRADIENT_NORM = 1.0
_KEPT_CHECKPOINTS = 2
_WEIGHTS = "weights.safetensors"


class TrainingExtension(Protocol):
    """What a learned pruning method adds to training.

    Its parameters live in the model, so that checkpoints hold them; it keeps no other state between steps.
    """

    def parameter_groups(self) -> list[dict[str, Any]]:
        """AdamW groups of the method's own parameters: `params`, `lr` and, where they differ, `betas`, `eps`.

        All other trainable parameters of the model are its weights. Only the weights' gradients are clipped:
        a threshold with a large gradient must not slow the weights down, and Adam bounds its own steps.
        """
        ...

    def penalty(self) -> Tensor:
        """A 0-d tensor that is added to the loss of every optimizer step."""
        ...

    def advance(self, step: int, total: int) -> None:
        """Called before optimizer step `step`, 0 .. total - 1. A pure function of its arguments."""
        ...

    def metrics(self) -> dict[str, float]:
        """Current numbers for progress events."""
        ...


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
    precision: str,
    device: torch.device,
    work: Path,
    events: Events,
    should_stop: ShouldStop,
    phase: Phase,
    span: tuple[float, float],
    teacher: PreTrainedModel | None = None,
    distill: Distill | None = None,
    extension: TrainingExtension | None = None,
    checkpoint_seconds: float = 60.0,
) -> FitResult:
    """Train `model` in place on the rows of `train`; resumes from the newest whole checkpoint in `work`.

    AdamW, linear warm-up and decay, gradients of the weights clipped to norm 1. With a teacher and `distill`
    the loss is the distillation loss. `span` is this stage's part (start, end) of the job's progress. The
    trained model is left in eval mode on `device`.

    Raises Canceled when `should_stop` says so (after saving a checkpoint when it says "preempt"), and
    PruningError with code `training_diverged` when the loss is not finite.
    """
    started = time.monotonic()
    arguments = _arguments(options, seed, precision, device, work)
    arguments.use_cache = getattr(model.config, "use_cache", False)  # else the Trainer changes the config
    watch = Watch(events, should_stop, phase, span, extension, checkpoint_seconds)
    stage = (options.model_dump(mode="json"), distill and distill.model_dump(mode="json"))
    key = key_of(*stage, phase, seed, precision, len(train))
    trainer = PruningTrainer(model, arguments, task, train, watch, key, teacher, distill, extension)
    newest = newest_checkpoint(work, key)
    try:
        trainer.train(resume_from_checkpoint=None if newest is None else str(newest))
    finally:
        # bf16 autocast wraps `forward`; later stages must see the model as it was.
        trainer.accelerator.unwrap_model(model, keep_fp32_wrapper=False)
        vars(model).pop("forward", None)
        trainer.accelerator.free_memory()
    if watch.preempted:
        raise Canceled(f"Preempted while {phase} at step {trainer.state.global_step}; a checkpoint is saved.")
    model.eval()
    return FitResult(
        steps=trainer.state.global_step,
        loss=watch.loss,
        seconds=time.monotonic() - started,
        resumed_from=0 if newest is None else checkpoint_step(newest),
    )


def _arguments(
    options: Training, seed: int, precision: str, device: torch.device, work: Path
) -> TrainingArguments:
    return TrainingArguments(
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
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
        logging_nan_inf_filter=False,
    )


class PruningTrainer(Trainer):
    """A Trainer with the task's own loss, the extension's parameters, and checkpoints no crash can tear."""

    def __init__(
        self,
        model: PreTrainedModel,
        arguments: TrainingArguments,
        task: Task,
        train: Encoded,
        watch: Watch,
        key: str,
        teacher: PreTrainedModel | None,
        distill: Distill | None,
        extension: TrainingExtension | None,
    ) -> None:
        super().__init__(
            model, arguments, data_collator=train.collate, train_dataset=train, callbacks=[watch]
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False
        self.task = task
        self.train_rows = train
        self.watch = watch
        self.key = key
        self.distill = distill
        self.teacher = None if teacher is None else teacher.to(arguments.device).eval()
        self.extension = extension

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGroupedSampler:
        return LengthGroupedSampler(
            self.train_rows.lengths.tolist(), self.args.train_batch_size, self.args.seed
        )

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW over the weights (decay on matrices only) and over the extension's own groups."""
        groups = self.extension.parameter_groups() if self.extension else []
        weights = self._weights()
        matrices = [parameter for parameter in weights if parameter.ndim > 1]
        vectors = [parameter for parameter in weights if parameter.ndim <= 1]
        decayed = {"params": matrices, "weight_decay": self.args.weight_decay}
        self.optimizer = torch.optim.AdamW(
            [decayed, {"params": vectors}, *groups], lr=self.args.learning_rate, weight_decay=0.0, fused=True
        )
        return self.optimizer

    def _weights(self) -> list[nn.Parameter]:
        groups = self.extension.parameter_groups() if self.extension else []
        own = {id(parameter) for group in groups for parameter in group["params"]}
        return [
            parameter
            for parameter in self.model.parameters()
            if parameter.requires_grad and id(parameter) not in own
        ]

    def _clip_grad_norm(self, model: nn.Module) -> Tensor:
        return self.accelerator.clip_grad_norm_(self._weights(), self.args.max_grad_norm)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Task or distillation loss plus the extension's penalty: 0-d, fp32."""
        batch = dict(inputs)
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        logits = self.task.logits(outputs, batch)
        loss = self.task.loss(logits, labels)
        if self.teacher is not None and self.distill is not None:
            with torch.no_grad():
                target = self.task.logits(self.teacher(**inputs), batch)
            loss = distillation_loss(logits, target, loss, self.distill)
        if not torch.isfinite(loss):
            raise PruningError(
                f"The loss is {loss.item()} at step {self.state.global_step}.",
                code="training_diverged",
                remedy="Lower learning_rate, raise warmup_fraction, or look for broken rows.",
            )
        self.watch.seen(loss.detach())
        if self.extension is not None:
            loss = loss + self.extension.penalty()
        return (loss, outputs) if return_outputs else loss

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = checkpoint_path(Path(self.args.output_dir), self.state.global_step)
        with atomic_folder(folder, self.key) as draft:
            save_model(self.model, str(draft / _WEIGHTS))
            self._save_optimizer_and_scheduler(str(draft))
            self._save_rng_state(str(draft))
            self.state.save_to_json(str(draft / TRAINER_STATE_NAME))
        size = sum(file.stat().st_size for file in folder.iterdir())
        for old in checkpoints(Path(self.args.output_dir))[_KEPT_CHECKPOINTS:]:
            shutil.rmtree(old)
        self.watch.saved(self.state.global_step, size)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_model(self.model, Path(resume_from_checkpoint) / _WEIGHTS)
