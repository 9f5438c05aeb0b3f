"""What methods share that learn their masks while the model trains: the recipe, and the run from masks to outcome."""

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from pydantic import Field
from torch import Tensor
from transformers import PreTrainedModel

from pruning.granularity import Kind
from pruning.masking.learned import LearnedMasks
from pruning.masking.schedule import linear_decay
from pruning.masking.units import Units
from pruning.methods import Context, Method, Outcome
from pruning.options import Training
from pruning.planning.length import training_steps
from pruning.training.tasks import load_model
from pruning.training.train import fit

ANY_UNITS: frozenset[Kind] = frozenset(
    {"unstructured", "block", "row", "neuron", "head", "structured", "hybrid"}
)
"""The granularities of methods for which a unit is anything with a mask."""

_MEMORY = 40


class LearnedSettings(Method.Settings, Training):
    """The training recipe, and when the masks become final."""

    freeze_at: float = Field(
        default=0.55,
        gt=0,
        le=1,
        description="Part of the steps after which masks get the exact ratio and only weights learn on.",
    )


class ScheduledSettings(LearnedSettings):
    """The training recipe, and when pruning begins and has reached the target ratio."""

    prune_from: float = Field(
        default=0.1, ge=0, lt=1, description="Part of the steps before which nothing is pruned."
    )
    prune_until: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Part of the steps from which the target ratio holds; until freeze_at units may still change.",
    )


class LearnedTraining:
    """A `TrainingExtension` that ends with masks of exactly the asked cost: how one method learns its masks.

    `masks` are those of the model; their groups may cost `budget` together. All that changes from step to step is in
    the masks' parameters and buffers, so that checkpoints hold it.
    """

    def __init__(self, masks: LearnedMasks, budget: float, settings: LearnedSettings) -> None:
        self.masks = masks
        self.budget = budget
        self.settings = settings

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Optimizer groups of what the method learns."""
        return []

    def penalty(self) -> Tensor:
        """What is added to the loss, 0-d."""
        return self.masks.frozen.float() * 0.0

    def observe(self) -> None:
        """Look at the gradients before the optimizer uses them."""

    @abstractmethod
    def advance(self, step: int, total: int) -> None:
        """Set the masks for `step`; `settled` says whether there is something left to do."""

    def settled(self, step: int, total: int) -> bool:
        """Whether the masks are final: from `freeze_at` of the steps on they cost exactly the budget, and stay."""
        if self.masks.frozen:
            self.masks.freeze()
        elif step >= math.floor(self.settings.freeze_at * total):
            self.masks.project(self.budget)
        return bool(self.masks.frozen)

    def finish(self) -> None:
        """Make the masks final after the last step, if they are not yet."""
        if not self.masks.frozen:
            self.masks.project(self.budget)

    def metrics(self) -> dict[str, float]:
        """The part of the model's cost that remains."""
        return {"remaining": float(self.masks.remaining().detach())}


class LearnedMethod(Method):
    """A method that learns its masks in one training run and lets the weights recover under the final ones."""

    granularities = ANY_UNITS
    measures = frozenset({"weights", "flops", "parameters", "latency"})
    needs_training = True

    settings: LearnedSettings

    @abstractmethod
    def learner(self, context: Context, groups: Mapping[str, Units], steps: int) -> LearnedTraining:
        """How this method learns the masks of `groups` in a run of so many steps."""

    def prune(self, context: Context) -> Outcome:
        """Train and prune in one run; raises what `pruning.training.train.fit` raises."""
        folder = context.teacher_dir
        return self.run(context, None if folder is None else load_model(folder, context.task))

    def run(self, context: Context, teacher: PreTrainedModel | None) -> Outcome:
        """Train and prune `context.model` in one run, with `teacher` where the request distills."""
        spec, model = context.spec, context.model
        groups = context.groups()
        learner = self.learner(context, groups, training_steps(self.settings, len(context.train)))
        distill = self.distill if spec.distill is True else spec.distill or None
        masks = learner.masks
        masks.attach(model)
        result = fit(
            model,
            context.task,
            context.train,
            self.settings,
            seed=spec.seed,
            precision=spec.precision,
            device=context.device,
            work=context.work,
            events=context.events,
            should_stop=context.should_stop,
            phase="pruning",
            span=context.span,
            teacher=teacher,
            distill=distill,
            extension=learner,
            compile=spec.compile,
            checkpoint_seconds=spec.checkpoint_seconds,
            group=context.group,
        )
        learner.finish()
        densities = masks.densities()
        kept = masks.bake(model)
        return context.outcome(groups, kept, steps=result.steps, loss=result.loss, density=densities)


def learning_rates(settings: LearnedSettings, steps: int) -> list[float]:
    """The learning rate's factor at every step before the masks are frozen."""
    warmup = math.ceil(settings.warmup_fraction * steps)
    return [linear_decay(step, steps, warmup) for step in range(math.floor(settings.freeze_at * steps))]


def memory(steps: int) -> float:
    """Adam's second decay rate that averages squared gradients over 1/40 of a run.

    Where gradients shrink by orders of magnitude within a short run, an optimizer that remembers the start would
    stop short of the target.
    """
    return min(max(1 - _MEMORY / steps, 0.9), 0.999)
