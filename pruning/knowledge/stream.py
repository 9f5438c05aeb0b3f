"""The calibration rows on their way up: hidden states of the pruned and the dense model, a sub-layer at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.knowledge.scores import PredictiveKnowledge, RepresentationalKnowledge, per_unit
from pruning.knowledge.sublayers import Sublayer
from pruning.knowledge.tune import NormalEquations
from pruning.model.layers import family
from pruning.training.tasks import Task

Loss = Callable[[Tensor, Tensor], Tensor]
"""(student logits, teacher logits), both (answers, classes) -> (answers,)."""


@dataclass(frozen=True)
class Batch:
    """Rows that are computed together: their positions in the draw (rows,), and all that is known of them."""

    rows: Tensor
    whole: dict[str, Tensor]

    @property
    def inputs(self) -> dict[str, Tensor]:
        """What the model reads."""
        return {name: value for name, value in self.whole.items() if name != "labels"}

    @property
    def real(self) -> Tensor:
        """What is not padding, (rows, tokens) bool."""
        return self.whole["attention_mask"].bool()


class Splice(nn.Module):
    """Stands in the place of an encoder's layers: notes the hidden states that come in, hands out those it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.incoming: Tensor | None = None
        self.outgoing: Tensor | None = None

    def forward(self, hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        """`outgoing` where there is one, else what came in."""
        self.incoming = hidden_states
        return hidden_states if self.outgoing is None else self.outgoing


class Ends:
    """A model without its layers: what happens below the first and above the last, where `task` is answered."""

    def __init__(self, model: PreTrainedModel, task: Task, splice: Splice) -> None:
        self.task = task
        self._model = model
        self._splice = splice

    @classmethod
    @contextmanager
    def of(cls, model: PreTrainedModel, task: Task) -> Iterator["Ends"]:
        """Take the layers out of the model, which is frozen and in evaluation mode; put everything back on leaving."""
        path, _, name = family(model).layers.rpartition(".")
        encoder = model.base_model.get_submodule(path)
        stack, training = getattr(encoder, name), model.training
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        splice = Splice()
        model.eval()
        model.requires_grad_(False)
        setattr(encoder, name, nn.ModuleList([splice]))
        try:
            yield cls(model, task, splice)
        finally:
            setattr(encoder, name, stack)
            model.train(training)
            for parameter in learning:
                parameter.requires_grad_(True)

    def embed(self, batch: Batch) -> Tensor:
        """The input of the first layer, (rows, tokens, hidden)."""
        self._splice.outgoing = None
        self._model(**batch.inputs)
        assert self._splice.incoming is not None  # noqa: S101 - the model ran its one layer
        return self._splice.incoming

    def read(self, hidden: Tensor) -> Tensor:
        """What the task's head reads of (rows, tokens, hidden): all tokens, or the first."""
        return hidden[:, :1].contiguous() if self.task.reads_first_token else hidden

    def logits(self, batch: Batch, read: Tensor) -> Tensor:
        """The model's answers (answers, classes) when its last layer says `read`; of labels only the places count."""
        self._splice.outgoing = read
        return self.task.logits(self._model(**batch.inputs), batch.whole)


@dataclass(frozen=True)
class Knowledge:
    """Both kinds of knowledge of one sub-layer, while they are measured."""

    sublayer: Sublayer
    rows: Tensor
    predictive: PredictiveKnowledge
    representational: RepresentationalKnowledge

    @classmethod
    def of(cls, sublayer: Sublayer, batch_of_row: Tensor) -> Self:
        """Nothing measured yet."""
        columns = sublayer.output.weight.shape[1]
        predictive = PredictiveKnowledge(int(batch_of_row.max()) + 1, columns)
        return cls(sublayer, batch_of_row, predictive, RepresentationalKnowledge(columns))

    def see(self, batch: Batch, inner: Tensor) -> None:
        """Add U (rows, tokens, columns) of a batch to representational knowledge."""
        self.representational.add(inner.detach(), batch.real)

    def watch(self, batch: Batch, inner: Tensor) -> None:
        """Add the gradient of U to predictive knowledge when it comes by; nothing holds it longer than that."""
        values, batch_of_row = inner.detach(), self.rows[batch.rows]
        inner.requires_grad_()
        inner.register_hook(  # type: ignore[no-untyped-call]
            lambda gradient: self.predictive.add(values, gradient, batch_of_row)
        )

    def units(self, balance: float) -> Tensor:
        """(units,) float64: predictive + `balance` * representational, the mean over each unit's columns."""
        predictive = self.predictive.value(len(self.rows))
        representational = self.representational.value(self.sublayer.output.weight)
        return per_unit(predictive + balance * representational, self.sublayer.size)


class Stream:
    """Where all calibration rows are: the input of one sub-layer, in the pruned model and in the dense one.

    What lies below is final, so nothing below is ever computed again, and the dense model climbs beside the pruned
    one: two sets of hidden states are all that is kept. `tick` is called after every batch.
    """

    def __init__(
        self,
        ends: Ends,
        batches: Sequence[Batch],
        batch_of_row: Tensor,
        tick: Callable[[], None],
        *,
        bf16: bool = False,
    ) -> None:
        """`batch_of_row` (rows of the draw,) int64: the batch each row counts to in predictive knowledge.

        `bf16` measures in bfloat16 where autocast allows it; hidden states and refits stay in float32.
        """
        self._ends = ends
        self._batches = batches
        self._batch_of_row = batch_of_row
        self._share = batch_of_row.bincount().float().reciprocal()[batch_of_row]
        self._tick = tick
        self._bf16 = bf16
        self._student: list[Tensor] = []
        with torch.no_grad():
            for batch in batches:
                self._student.append(ends.embed(batch))
                tick()
        self._teacher = list(self._student)

    def measure(
        self, stack: Sequence[Sublayer], loss: Loss, teacher: Sequence[Tensor] | None
    ) -> tuple[list[Knowledge], list[Tensor]]:
        """Run all rows through `stack`, the sub-layers from here to the top.

        `teacher` holds the dense model's logits (answers, classes) of every batch. Without them the student still is
        the teacher, so that every gradient is zero and none is computed. A row's loss is the mean over its answers.
        Returns the knowledge of each sub-layer and the student's logits of every batch.
        """
        knowledge = [Knowledge.of(sublayer, self._batch_of_row) for sublayer in stack]
        answers = []
        for index, (batch, hidden) in enumerate(zip(self._batches, self._student, strict=True)):
            half = torch.autocast(hidden.device.type, torch.bfloat16, enabled=self._bf16)
            with torch.set_grad_enabled(teacher is not None):
                with half:
                    logits, lowest = self._answer(knowledge, batch, hidden)
                logits = logits.float()
                if teacher is not None:
                    losses = loss(logits, teacher[index].to(logits.device))
                    total = (self._shares(batch) * losses).sum()
                    torch.autograd.grad(total, lowest)  # passes every watched U on its way down
            answers.append(logits.detach().cpu())
            self._tick()
        return knowledge, answers

    def _shares(self, batch: Batch) -> Tensor:
        """The part that each answer has in the mean loss of the gradient batch of its row, (answers,)."""
        row = self._ends.task.rows_of(batch.whole)
        return (self._share[batch.rows].to(row.device) / row.bincount(minlength=len(batch.rows)))[row]

    def _answer(self, knowledge: Sequence[Knowledge], batch: Batch, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The logits (answers, classes), and U of the lowest sub-layer, where the gradient's way ends."""
        watched: list[Tensor] = []
        *lower, top = knowledge
        for known in lower:
            inner = known.sublayer.inner(hidden, batch.real)
            known.see(batch, inner)
            watched.append(inner)
            if torch.is_grad_enabled():
                known.watch(batch, inner)
            hidden = known.sublayer.norm(known.sublayer.residual_sum(hidden, inner))
        with torch.no_grad():
            top.see(batch, top.sublayer.inner(hidden, batch.real))
        # The top sub-layer is an FFN, which treats every token by itself: only those that are read need be computed.
        read = self._ends.read(hidden)
        inner = top.sublayer.inner(read, batch.real[:, : read.shape[1]])
        watched.append(inner)
        if torch.is_grad_enabled():
            top.watch(batch, inner)
        read = top.sublayer.norm(top.sublayer.residual_sum(read, inner))
        return self._ends.logits(batch, read), watched[0]

    @torch.no_grad()
    def equations(self, dense: Sublayer, pruned: Sublayer) -> NormalEquations:
        """What the output projection of `pruned` must solve to say what the dense model's `dense` says.

        The target is the dense model's residual sum, before the norm; the residual and the bias taken from it are
        the pruned model's (equation 5), so that the fit also repairs what went wrong below. Moves the dense model up.
        """
        weight = pruned.output.weight
        equations = NormalEquations(weight.shape[1], len(weight), weight.device)
        for index, batch in enumerate(self._batches):
            student, teacher = self._student[index], self._teacher[index]
            aim = dense.residual_sum(teacher, dense.inner(teacher, batch.real))
            wanted = aim - student - pruned.output.bias
            equations.add(pruned.inner(student, batch.real)[batch.real], wanted[batch.real])
            self._teacher[index] = dense.norm(aim)
            self._tick()
        return equations

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
