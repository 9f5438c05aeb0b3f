"""What is sent down from the logits, so that gradients on the way say what the model's answers depend on."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pruning.knowledge.draw import Batch
from pruning.training.tasks import Task

Loss = Callable[[Tensor, Tensor], Tensor]
"""(student logits, teacher logits), both (answers, classes) -> (answers,)."""

Signal = Callable[[int, Batch, Tensor], Tensor]
"""(place of the batch, the batch, its logits (answers, classes)) -> one gradient for each answer, same shape."""


def mismatch(loss: Loss, teacher: Sequence[Tensor]) -> Signal:
    """The gradient of each answer's loss against the dense model's logits (answers, classes) of every batch."""

    def signal(index: int, batch: Batch, logits: Tensor) -> Tensor:
        return _gradient(logits, lambda answers: loss(answers, teacher[index].to(answers.device)).sum())

    return signal


def mistake(task: Task) -> Signal:
    """The gradient of each answer's own loss against its label; a task's loss is the mean over answers."""

    def signal(index: int, batch: Batch, logits: Tensor) -> Tensor:
        return _gradient(logits, lambda answers: task.loss(answers, batch.whole["labels"]) * len(answers))

    return signal


def curvature(task: Task, temperature: float, seed: int) -> Signal:
    """A random root of the true Fisher information of each answer, by the model's own probabilities.

    For softmax probabilities p that is F = diag(p) - p p^T, the curvature of T^2 KL at temperature T. With random
    signs e, v = sqrt(p) e - p (sqrt(p) . e) has E[v v^T] = F: one way down replaces one for every class, and no label
    is drawn. Of regression, where the loss is the mean squared difference, F = 2 / outputs. A row's answers are
    weighed so that squares of gradients add up to the curvature of the row's mean loss. The signs depend on `seed`
    and the place of the batch alone.
    """

    def signal(index: int, batch: Batch, logits: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
        signs = torch.randint(2, logits.shape, generator=generator).to(logits) * 2 - 1
        if task.kind == "regression":
            root = signs * (2 / logits.shape[1]) ** 0.5
        else:
            p = (logits / temperature).softmax(-1)
            root = p.sqrt() * signs - p * (p.sqrt() * signs).sum(-1, keepdim=True)
        row = task.rows_of(batch.whole)
        return root * row.bincount()[row].sqrt()[:, None]

    return signal


def _gradient(logits: Tensor, total: Callable[[Tensor], Tensor]) -> Tensor:
    answers = logits.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(total(answers), answers)
    return gradient
