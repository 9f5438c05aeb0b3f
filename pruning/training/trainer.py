"""The transformers Trainer that stages of training share: own losses, learned masks, checkpoints by our rules."""

import shutil
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from pruning.errors import PruningError
from pruning.steps.checkpoint import atomic_folder, checkpoint_path, checkpoints
from pruning.training.batches import LengthGroupedSampler
from pruning.training.distill import Distillation
from pruning.training.group import Group
from pruning.training.shares import Shares, divided
from pruning.training.tasks import Encoded, Task
from pruning.training.watch import Watch

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

    def observe(self) -> None:
        """Called when the gradients of a step are complete and unscaled, before the optimizer uses them."""
        ...

    def metrics(self) -> dict[str, float]:
        """Current numbers for progress events."""
        ...


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
        distillation: Distillation | None,
        extension: TrainingExtension | None,
        group: Group,
    ) -> None:
        collate = divided(train, task, group)
        super().__init__(model, arguments, data_collator=collate, train_dataset=train, callbacks=[watch])
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False
        self.task = task
        self.train_rows = train
        self.watch = watch
        self.key = key
        self.distillation = distillation
        self.extension = extension
        self.group = group

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
        # Takes the scale of fp16 out of all gradients before it measures those of the weights.
        return self.accelerator.clip_grad_norm_(self._weights(), self.args.max_grad_norm)

    def training_step(self, *arguments: Any, **named: Any) -> Tensor:
        """Forward and backward; leaves the gradients of the whole batch, whoever computed which part of it."""
        self.group.seed(self.args.seed, self.state.global_step)
        loss: Tensor = super().training_step(*arguments, **named)
        self.group.sum_gradients(self.model.parameters())
        return loss

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Task or distillation loss plus the extension's penalty, this process's part of both: 0-d, fp32."""
        shares = Shares.taken_from(inputs)
        batch = dict(inputs)
        labels = inputs.pop("labels")
        outputs = model(**inputs, **(self.distillation.wanted if self.distillation else {}))
        logits = self.task.logits(outputs, batch)
        loss = self.task.loss(logits, labels)
        if self.distillation is None:
            loss = shares.answers * loss
        else:
            loss = self.distillation.loss(outputs, batch, self.task, logits, loss, shares)
        whole = self.group.total(loss)
        if not torch.isfinite(whole):
            raise PruningError(
                f"The loss is {whole.item()} at step {self.state.global_step}.",
                code="training_diverged",
                remedy="Lower learning_rate, raise warmup_fraction, or look for broken rows.",
            )
        self.watch.seen(whole)
        if self.extension is not None:
            loss = loss + self.extension.penalty() / self.group.size
        return (loss, outputs) if return_outputs else loss

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = checkpoint_path(Path(self.args.output_dir), self.state.global_step)
        with atomic_folder(folder, self.key) as draft:
            save_model(self.model, str(draft / _WEIGHTS))
            self._save_optimizer_and_scheduler(str(draft))
            self._save_scaler(str(draft))
            self._save_rng_state(str(draft))
            self.state.save_to_json(str(draft / TRAINER_STATE_NAME))
            self.group.check()
        size = sum(file.stat().st_size for file in folder.iterdir())
        for old in checkpoints(Path(self.args.output_dir))[_KEPT_CHECKPOINTS:]:
            shutil.rmtree(old)
        self.watch.saved(self.state.global_step, size)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        load_model(self.model, Path(resume_from_checkpoint) / _WEIGHTS)
