"""Distillation: the pruned student learns from a teacher, by default the dense model (Hinton, Vinyals, Dean 2015)."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.masking.masks import ATTRIBUTE
from pruning.masking.slot_units import SlotUnits
from pruning.model.layers import family
from pruning.options import Distill
from pruning.training.features import attention_difference, hidden_difference
from pruning.training.group import ALONE, Group
from pruning.training.shares import WHOLE, Shares
from pruning.training.tasks import Batch, Task

PROJECTION = "distillation"
"""The attribute of the student under which the map of its hidden states is registered while it trains."""


def distillation_loss(student: Tensor, teacher: Tensor, task_loss: Tensor, settings: Distill) -> Tensor:
    """Mix the task's loss (0-d) with what the teacher says: 0-d, fp32. Logits are (answers, classes).

    Classes: weight * T^2 * KL(teacher || student), mean over answers, with both distributions softened by the
    temperature T; T^2 keeps the size of the gradient. One output (regression): weight * mean squared
    difference of the two answers. The rest of the weight goes to the task's loss.
    """
    student, teacher = student.float(), teacher.detach().float()
    if student.shape[-1] == 1:
        imitation = F.mse_loss(student, teacher)
    else:
        soft_student = F.log_softmax(student / settings.temperature, dim=-1)
        soft_teacher = F.log_softmax(teacher / settings.temperature, dim=-1)
        divergence = F.kl_div(soft_student, soft_teacher, reduction="batchmean", log_target=True)
        imitation = settings.temperature**2 * divergence
    return settings.weight * imitation + (1 - settings.weight) * task_loss


class Distillation:
    """A teacher at work on one student. `kept` are the heads that each layer of a shrunk student has left.

    Attention probabilities are compared as the models give them: the student's after dropout, as in the
    released code of LEAP.
    """

    def __init__(
        self,
        student: PreTrainedModel,
        teacher: PreTrainedModel,
        settings: Distill,
        *,
        seed: int,
        kept: Sequence[Sequence[int]] | None = None,
        group: Group = ALONE,
    ) -> None:
        self.student = student
        self.teacher = teacher.eval()
        self.settings = settings
        self.kept = kept
        # Whether each layer of a shrunk student has a head left, (layers,).
        self.left = None if kept is None else torch.tensor([*map(bool, kept)], device=student.device)
        self.group = group
        self.projection = _projection(student, teacher, settings, seed)

    @property
    def wanted(self) -> dict[str, bool]:
        """What both models must give beside their answers."""
        wanted = {"output_hidden_states": self.settings.hidden > 0}
        wanted["output_attentions"] = self.settings.attention > 0
        return {name: True for name, on in wanted.items() if on}

    @contextmanager
    def attached(self) -> Iterator[None]:
        """While the block runs: the projection is part of the student, so that checkpoints hold it and it is
        trained as a weight, and attention is computed where its probabilities can be seen."""
        before = [(model, model.config._attn_implementation) for model in (self.student, self.teacher)]
        try:
            if self.projection is not None:
                self.student.add_module(PROJECTION, self.projection)
            if self.settings.attention:
                for model, _ in before:
                    model.set_attn_implementation("eager")
            yield
        finally:
            if self.projection is not None:
                delattr(self.student, PROJECTION)
            for model, implementation in before:
                model.set_attn_implementation(implementation)

    def loss(
        self,
        outputs: Any,
        batch: Batch,
        task: Task,
        logits: Tensor,
        task_loss: Tensor,
        shares: Shares = WHOLE,
    ) -> Tensor:
        """The whole loss: 0-d, fp32. `outputs` and `logits` are the student's, `batch` is with its labels.

        Where the batch is a part of one, each term weighs what `shares` says.
        """
        settings = self.settings
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        with torch.no_grad():
            target = self.teacher(**inputs, **self.wanted)
        loss = shares.answers * distillation_loss(logits, task.logits(target, batch), task_loss, settings)
        real, masks = batch["attention_mask"], _head_masks(self.student)
        if settings.hidden:
            project = self.projection or (lambda states: states)
            states = (outputs.hidden_states, target.hidden_states)
            alive = self._alive(len(outputs.hidden_states) - 1, masks)

            def total(differences: Tensor) -> Tensor:
                return self.group.total(shares.tokens * differences)

            difference = hidden_difference(*states, real, settings.layers, project, alive, total)
            loss = loss + settings.hidden * shares.tokens * difference
        if settings.attention:
            maps = (outputs.attentions, target.attentions)
            difference = attention_difference(*maps, real, self.kept, masks)
            loss = loss + settings.attention * shares.pairs * difference
        return loss

    def _alive(self, layers: int, masks: Mapping[int, Tensor]) -> Tensor:
        """Which layers of the student have a head left, (layers,), bool."""
        if self.left is not None:
            return self.left
        whole = torch.ones((), dtype=torch.bool, device=self.student.device)
        return torch.stack([masks[index].any() if index in masks else whole for index in range(layers)])


def _projection(
    student: PreTrainedModel, teacher: PreTrainedModel, settings: Distill, seed: int
) -> nn.Linear | None:
    """A map from the student's hidden states to the teacher's, where one is needed or asked for.

    The identity where sizes agree (CoFi), else a random one that keeps lengths as far as it can.
    """
    size, target = (int(getattr(model.config, family(model).hidden_config)) for model in (student, teacher))
    if not settings.hidden or (size == target and not settings.projection):
        return None
    projection = nn.Linear(size, target, bias=False, device=student.device)
    with torch.no_grad():
        if size == target:
            nn.init.eye_(projection.weight)
        else:
            generator = torch.Generator().manual_seed(seed)
            random = nn.init.orthogonal_(torch.empty(target, size), generator=generator)
            projection.weight.copy_(random)
    return projection


def _head_masks(student: PreTrainedModel) -> dict[int, Tensor]:
    """The mask (heads,) of each layer of a student whose heads are being pruned."""
    masks = getattr(student, ATTRIBUTE, None)
    if masks is None:
        return {}
    return {
        group.layer: masks.source(name).kept
        for name, group in masks.groups.items()
        if isinstance(group, SlotUnits) and group.kind == "heads"
    }
