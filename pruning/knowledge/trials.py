"""Choose between settings by what the pruned model answers on rows that it was not fitted to."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pruning.knowledge.draw import Draw
from pruning.knowledge.signals import Loss
from pruning.knowledge.sites import Site
from pruning.knowledge.steps import Step, Steps
from pruning.model.layers import layers

if TYPE_CHECKING:
    from pruning.methods import Context


PruneAt = Callable[[float, Steps], list[Step]]
"""Prunes the model at a value of the setting, from the steps that are finished on."""


class Judge:
    """How far the model's answers are from the dense model's, on held-out training rows."""

    def __init__(
        self,
        context: "Context",
        held: Draw,
        sites: Sequence[Site],
        loss: Loss,
        beat: Callable[[], None],
    ) -> None:
        self._context = context
        self._batches = held.batches(context.device, sum(site.sublayer.work for site in sites))
        self._loss = loss
        self._beat = beat

    @property
    def linears(self) -> list[nn.Linear]:
        """What the model is pruned in."""
        return [linear for layer in layers(self._context.model) for linear in layer.linears]

    @torch.no_grad()
    def answers(self) -> list[Tensor]:
        """The logits (answers, classes) of every batch as the model is now."""
        model, task = self._context.model, self._context.task
        found, training = [], model.training
        model.eval()
        for batch in self._batches:
            found.append(task.logits(model(**batch.inputs), batch.whole).float())
            self._beat()
        model.train(training)
        return found

    def distance(self, dense: Sequence[Tensor]) -> float:
        """The mean loss against the dense model's `answers`."""
        losses = [self._loss(now, then) for now, then in zip(self.answers(), dense, strict=True)]
        return float(torch.cat(losses).mean())


class Trials:
    """Tries each value of a setting with few rows, and leaves the model as a whole climb at the best one makes it."""

    def __init__(self, folder: Path, judge: Judge, attempt: PruneAt, climb: PruneAt) -> None:
        """`attempt` looks at few rows, `climb` at all of them; each has its finished steps in a folder of its own."""
        self._folder = folder
        self._judge = judge
        self._climb = climb
        self._attempt = attempt

    def best(self, values: Sequence[float]) -> tuple[list[Step], dict[str, Any]]:
        """The steps at the best of the `values`, the first of equals, and what the report says of the choice.

        A single value is not judged. The model is pruned by those steps.
        """
        if len(values) == 1:
            return self._climb(values[0], self._steps("at", values[0])), {"representation_weight": values[0]}
        dense = self._judge.answers()
        distances = []
        for value in values:
            with _restored(self._judge.linears):
                self._attempt(value, self._steps("try", value))
                distances.append(self._judge.distance(dense))
        chosen = values[distances.index(min(distances))]
        tried = {f"{value:g}": distance for value, distance in zip(values, distances, strict=True)}
        steps = self._climb(chosen, self._steps("at", chosen))
        return steps, {"representation_weight": chosen, "held_out_distance": tried}

    def _steps(self, kind: str, value: float) -> Steps:
        return Steps(self._folder / f"{kind}-{value:g}")


@contextmanager
def _restored(linears: Sequence[nn.Linear]) -> Iterator[None]:
    """Give the parameters back their values on leaving."""
    parameters = [parameter for linear in linears for parameter in linear.parameters()]
    before = [parameter.detach().clone() for parameter in parameters]
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, before, strict=True):
                parameter.copy_(value)
