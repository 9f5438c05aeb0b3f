"""The calibration rows on their way up: hidden states of the pruned and the dense model, a sub-layer at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pruning.knowledge.draw import Batch
from pruning.knowledge.predictive import Gradients
from pruning.knowledge.scores import RepresentationalKnowledge
from pruning.knowledge.signals import Signal
from pruning.knowledge.sublayers import Sublayer
from pruning.knowledge.tune import NormalEquations
from pruning.model.layers import family
from pruning.training.tasks import Task


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
    ) -> tuple[list[Knowledge], list[Tensor]]:
        """Run all rows through `stack`, the sub-layers from here to the top.

        `signal` is what each answer sends down, weighed so that a row is the mean over its answers; `gradients` makes
        what gathers the result. Without a signal every gradient is zero and none is computed. Returns the knowledge
        of each sub-layer and the pruned model's logits of every batch.
        """
        knowledge = [
            Knowledge(each, gradients(each), RepresentationalKnowledge(each.output.weight.shape[1]))
            for each in stack
        ]
        answers = []
        for index, (batch, hidden) in enumerate(zip(self._batches, self._student, strict=True)):
            half = torch.autocast(hidden.device.type, torch.bfloat16, enabled=self._bf16)
            with torch.set_grad_enabled(signal is not None):
                with half:
                    logits, lowest = self._answer(knowledge, batch, hidden)
                logits = logits.float()
                if signal is not None:
                    down = signal(index, batch, logits.detach()) * self._shares(batch)
                    torch.autograd.grad(logits, lowest, down)  # passes every watched U on its way down
            answers.append(logits.detach().cpu())
            self._tick()
        return knowledge, answers

    def _shares(self, batch: Batch) -> Tensor:
        """The part that each answer has in the mean over the answers of its row, (answers, 1)."""
        row = self._ends.task.rows_of(batch.whole)
        return row.bincount().float().reciprocal()[row, None]

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
    def equations(self, dense: Sublayer, pruned: Sublayer, *, top: bool = False) -> NormalEquations:
        """What the output projection of `pruned` must solve to say what the dense model's `dense` says.

        The target is the dense model's residual sum, before the norm; the residual and the bias taken from it are
        the pruned model's (equation 5), so that the fit also repairs what went wrong below. Of the `top` sub-layer
        only the tokens count that the task's head reads. Moves the dense model up.
        """
        weight = pruned.output.weight
        equations = NormalEquations(weight.shape[1], len(weight), weight.device)
        for index, batch in enumerate(self._batches):
            student, teacher = self._student[index], self._teacher[index]
            aim = dense.residual_sum(teacher, dense.inner(teacher, batch.real))
            wanted = aim - student - pruned.output.bias
            counted = batch.real
            if top:
                places = torch.arange(student.shape[1], device=student.device)
                counted = counted & (places < self._ends.read(student).shape[1])
            equations.add(pruned.inner(student, batch.real)[counted], wanted[counted])
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
