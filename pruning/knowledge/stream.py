"""The calibration rows on their way up: hidden states of the pruned and the dense model, a sub-layer at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pruning.knowledge.draw import Batch
from pruning.knowledge.ends import Ends
from pruning.knowledge.predictive import Gradients
from pruning.knowledge.scores import RepresentationalKnowledge
from pruning.knowledge.signals import Signal
from pruning.knowledge.sublayers import Sublayer
from pruning.knowledge.tune import NormalEquations

_ALIKE = 0.3
"""Part of a token's weight in a refit that is the same for all: a fit to few tokens would not hold for other rows.
Rows count alike, or those about which the model is in doubt would be all that counts."""


@dataclass(frozen=True)
class Knowledge:
    """Both kinds of knowledge of one sub-layer, while they are measured."""

    sublayer: Sublayer
    predictive: Gradients
    representational: RepresentationalKnowledge

    def see(self, batch: Batch, inner: Tensor) -> None:
        """Add U (rows, tokens, columns) of a batch to representational knowledge."""
        self.representational.add(inner.detach(), batch.real)

    def watch(self, batch: Batch, inner: Tensor) -> None:
        """Add the gradient of U to predictive knowledge when it comes by; nothing holds it longer than that."""
        values = inner.detach()
        inner.requires_grad_()
        inner.register_hook(  # type: ignore[no-untyped-call]
            lambda gradient: self.predictive.add(values, gradient, batch.rows)
        )

    def columns(self, rows: int) -> Tensor:
        """Predictive, then representational knowledge of each column: (2, columns) float64."""
        representational = self.representational.value(self.sublayer.output.weight)
        return torch.stack([self.predictive.value(rows), representational])


class Seen(NamedTuple):
    """What one pass of all rows told.

    `knowledge` of every sub-layer; of every batch the pruned model's `logits` (answers, classes) and, where a signal
    was sent down, the `pull` (rows, tokens) on the lowest sub-layer: the squared gradient by its residual sum.
    """

    knowledge: list[Knowledge]
    logits: list[Tensor]
    pull: list[Tensor]


class Stream:
    """Where all calibration rows are: the input of one sub-layer, in the pruned model and in the dense one.

    What lies below is final, so nothing below is ever computed again, and the dense model climbs beside the pruned
    one: two sets of hidden states are all that is kept. `tick` is called after every batch.
    """

    def __init__(
        self,
        ends: Ends,
        batches: Sequence[Batch],
        tick: Callable[[], None],
        *,
        bf16: bool = False,
    ) -> None:
        """`bf16` measures in bfloat16 where autocast allows it; hidden states and refits stay in float32."""
        self._ends = ends
        self._batches = batches
        self._tick = tick
        self._bf16 = bf16
        self._student: list[Tensor] = []
        with torch.no_grad():
            for batch in batches:
                self._student.append(ends.embed(batch))
                tick()
        self._teacher = list(self._student)

    def measure(
        self, stack: Sequence[Sublayer], signal: Signal | None, gradients: Callable[[Sublayer], Gradients]
    ) -> Seen:
        """Run all rows through `stack`, the sub-layers from here to the top.

        `signal` is what each answer sends down, weighed so that a row is the mean over its answers; `gradients` makes
        what gathers the result. Without a signal every gradient is zero and none is computed.
        """
        knowledge = [
            Knowledge(each, gradients(each), RepresentationalKnowledge(each.output.weight.shape[1]))
            for each in stack
        ]
        seen = Seen(knowledge, [], [])
        for index, (batch, hidden) in enumerate(zip(self._batches, self._student, strict=True)):
            half = torch.autocast(hidden.device.type, torch.bfloat16, enabled=self._bf16)
            with torch.set_grad_enabled(signal is not None):
                with half:
                    logits, lowest = self._answer(knowledge, batch, hidden)
                logits = logits.float()
                if signal is not None:
                    down = signal(index, batch, logits.detach()) * self._shares(batch)
                    # Every watched U is passed on the way down.
                    _, gradient = torch.autograd.grad(logits, lowest, down)
                    pull = batch.real.float()
                    pull[:, gradient.shape[1] :] = 0  # tokens that are not read
                    pull[:, : gradient.shape[1]] *= gradient.float().square().sum(-1)
                    seen.pull.append(pull.cpu())
            seen.logits.append(logits.detach().cpu())
            self._tick()
        return seen

    def _shares(self, batch: Batch) -> Tensor:
        """The part that each answer has in the mean over the answers of its row, (answers, 1)."""
        row = self._ends.task.rows_of(batch.whole)
        return row.bincount().float().reciprocal()[row, None]

    def _answer(
        self, knowledge: Sequence[Knowledge], batch: Batch, hidden: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The logits (answers, classes), and U and Y of the lowest sub-layer, where the gradient's way ends."""
        lowest: tuple[Tensor, Tensor] | None = None
        *lower, top = knowledge
        for known in lower:
            inner = known.sublayer.inner(hidden, batch.real)
            known.see(batch, inner)
            if torch.is_grad_enabled():
                known.watch(batch, inner)
            hidden = known.sublayer.residual_sum(hidden, inner)
            lowest = lowest or (inner, hidden)
            hidden = known.sublayer.norm(hidden)
        with torch.no_grad():
            top.see(batch, top.sublayer.inner(hidden, batch.real))
        # The top sub-layer is an FFN, which treats every token by itself: only those that are read need be computed.
        read = self._ends.read(hidden)
        inner = top.sublayer.inner(read, batch.real[:, : read.shape[1]])
        if torch.is_grad_enabled():
            top.watch(batch, inner)
        read = top.sublayer.residual_sum(read, inner)
        return self._ends.logits(batch, top.sublayer.norm(read)), lowest or (inner, read)

    @torch.no_grad()
    def equations(
        self,
        dense: Sublayer,
        pruned: Sublayer,
        *,
        top: bool = False,
        pull: Sequence[Tensor] | None = None,
    ) -> NormalEquations:
        """What the output projection of `pruned` must solve to say what the dense model's `dense` says.

        The target is the dense model's residual sum, before the norm; the residual and the bias taken from it are
        the pruned model's (equation 5), so that the fit also repairs what went wrong below. Of the `top` sub-layer
        only the tokens count that the task's head reads. With the `pull` on each token that `measure` found, errors
        count for more where the answers hang on them. Moves the dense model up.
        """
        weight = pruned.output.weight
        equations = NormalEquations(weight.shape[1], len(weight), weight.device)
        weights = None if pull is None else self._by_pull(pull)
        for index, batch in enumerate(self._batches):
            student, teacher = self._student[index], self._teacher[index]
            aim = dense.residual_sum(teacher, dense.inner(teacher, batch.real))
            wanted = aim - student - pruned.output.bias
            counted = batch.real
            if top:
                places = torch.arange(student.shape[1], device=student.device)
                counted = counted & (places < self._ends.read(student).shape[1])
            counts = None if weights is None else weights[index].to(counted.device)[counted]
            equations.add(pruned.inner(student, batch.real)[counted], wanted[counted], counts)
            self._teacher[index] = dense.norm(aim)
            self._tick()
        return equations

    def _by_pull(self, pull: Sequence[Tensor]) -> list[Tensor]:
        """What the squared error of each token counts, (rows, tokens) of every batch: 1 in the mean of every row."""
        counts = []
        for batch, found in zip(self._batches, pull, strict=True):
            real = batch.real.to(found)
            mean = found.sum(1, keepdim=True) / real.sum(1, keepdim=True)
            counts.append(_ALIKE + (1 - _ALIKE) * torch.where(mean > 0, found / mean, real))
        return counts

    @torch.no_grad()
    def lift_teacher(self, dense: Sublayer) -> None:
        """Move the dense model up through its `dense`."""
        for index, batch in enumerate(self._batches):
            self._teacher[index] = dense(self._teacher[index], batch.real)
            self._tick()

    @torch.no_grad()
    def lift_student(self, pruned: Sublayer) -> None:
        """Move the pruned model up through its `pruned`."""
        for index, batch in enumerate(self._batches):
            self._student[index] = pruned(self._student[index], batch.real)
            self._tick()
