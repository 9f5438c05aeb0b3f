"""LEAP: learnable pruning for transformers (Yao, Wu, Ma, Shen, Keutzer, He; arXiv 2105.14636)."""

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from pruning.masking.learned import START, LearnedMasks, Thresholds
from pruning.masking.schedule import linear_decay, logit
from pruning.masking.units import Units
from pruning.methods import Context, Method, Outcome
from pruning.spec import Distill, Training
from pruning.training.tasks import load_model
from pruning.training.train import fit

_NEAR = 3e-4
"""Below this squared excess over the target the coefficient is a fifth of the weakest (released code)."""

_REACHED_AFTER = 0.5
"""The part of the thresholds' possible travel after which the target ratio is reached."""

_MEMORY = 40
"""The thresholds' optimizer averages squared gradients over 1/40 of the run: the regulariser's gradient falls
with the cube of the excess, and an optimizer that remembers the start would stop short of the target."""

_MOMENTUM = 0.5
"""With the usual 0.9 the thresholds of a run of a few hundred steps shoot past the target by half."""

_REFRESH_EVERY = 5
"""Masks follow scores and thresholds every so many steps: both move slowly, and to find the k-th score of every
matrix costs a quarter of a training step."""


class Regulariser:
    """The pull of the remaining ratio R towards its target R_t: one-sided, squared, adaptive.

    loss = coefficient * (R - R_t)^2 while R > R_t. The coefficient falls from `strongest` at R = 1 in
    proportion to the squared excess, but not below `weakest`, and to a fifth of that next to the target.
    """

    def __init__(self, target: float, strongest: float, weakest: float) -> None:
        self.target = target
        self.strongest = strongest
        self.weakest = weakest

    def __call__(self, remaining: Tensor) -> Tensor:
        """The penalty (0-d) for a remaining ratio (0-d)."""
        excess = torch.relu(remaining - self.target).square()
        scale = excess.detach() / (1 - self.target) ** 2
        coefficient = (self.strongest * scale).clamp(min=self.weakest)
        return torch.where(excess.detach() < _NEAR, self.weakest / 5, coefficient) * excess


class LeapTraining:
    """LEAP as an extension of training.

    First everything is kept while sensitivities are measured; then weights, scores and thresholds learn; then,
    with the masks frozen, the weights alone.
    """

    def __init__(
        self,
        masks: LearnedMasks,
        regulariser: Regulariser,
        budget: float,
        settings: "Leap.Settings",
        steps: int,
    ) -> None:
        self.masks = masks
        self.regulariser = regulariser
        self.budget = budget
        self.settings = settings
        self.steps = steps

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Scores and thresholds, each with its own learning rate; no weight decay."""
        memory = min(max(1 - _MEMORY / self.steps, 0.9), 0.999)
        return [
            {"params": self.masks.scores(), "lr": self.settings.score_learning_rate, "eps": 1e-10},
            {
                "params": [self.masks.thresholds.values],
                "lr": self.settings.score_learning_rate,
                "betas": (_MOMENTUM, memory),
                "eps": 1e-12,
            },
        ]

    def penalty(self) -> Tensor:
        """The regulariser on the remaining ratio; zero once the masks are frozen."""
        if self.masks.frozen:
            return self.masks.shares.new_zeros(())
        return self.regulariser(self.masks.remaining())

    def advance(self, step: int, total: int) -> None:
        """Measure, then refresh the masks; at `freeze_at` project them to the exact ratio and freeze."""
        begin = math.floor(self.settings.begin_at * total)
        self.masks.sense(step < begin)
        if step == begin:
            self.masks.rank_by_sensitivity(self.settings.prior * _wander(self.settings, total))
        if self.masks.frozen:
            self.masks.freeze()
        elif step >= math.floor(self.settings.freeze_at * total):
            self.masks.project(self.budget)
        elif step >= begin and (step - begin) % _REFRESH_EVERY == 0:
            self.masks.refresh()

    def metrics(self) -> dict[str, float]:
        """The remaining ratio, as the thresholds say."""
        return {"remaining": float(self.masks.remaining().detach())}


class Leap(Method):
    """Scores learn which units stay, by the straight-through estimator; thresholds learn how many."""

    name = "leap"
    title = "LEAP"
    summary = (
        "Learns while training which units stay and, by one threshold per matrix, how many (Yao et al. 2022)."
    )
    granularities = frozenset({"unstructured", "block", "structured"})
    measures = frozenset({"weights", "flops"})
    needs_training = True

    class Settings(Method.Settings, Training):
        """The training recipe, and LEAP's own options."""

        score_learning_rate: float = Field(
            default=1e-2,
            gt=0,
            le=1,
            description="Learning rate of scores and thresholds (Adam, no weight decay).",
        )
        prior: float = Field(
            default=20.0,
            gt=0,
            le=1000,
            description="How much the sensitivities decide that are measured before pruning begins: scores then "
            "rise by each unit's sensitivity over its group's mean, times this many times the distance that a "
            "score wanders by chance in training. Near 0 movement alone decides, as in the paper, which takes "
            "long runs.",
        )
        temperature: float | None = Field(
            default=None,
            gt=0,
            description="Softness of the thresholds: keep fraction = sigmoid(threshold / temperature). By "
            "default such that the target is reached after half of the way that training can move them.",
        )
        chain_rule: bool = Field(
            default=True,
            description="Whether the task's gradient reaches a threshold through its sigmoid; false is the "
            "rule of the released code.",
        )
        strongest: float = Field(
            default=160.0, gt=0, description="Coefficient of the regulariser while everything remains."
        )
        weakest: float = Field(
            default=10.0, gt=0, description="Coefficient of the regulariser near the target."
        )
        begin_at: float = Field(
            default=0.1,
            gt=0,
            le=0.3,
            description="Part of the steps before anything is dropped; sensitivities are measured in it.",
        )
        freeze_at: float = Field(
            default=0.5,
            ge=0.4,
            le=1,
            description="Part of the steps after which masks get the exact ratio and only weights learn on.",
        )

    settings: Settings

    def prune(self, context: Context) -> Outcome:
        """Train and prune in one run; raises what `pruning.training.train.fit` raises."""
        spec, model = context.spec, context.model
        groups = context.groups()
        steps = _steps(self.settings, len(context.train))
        masks = self._masks(context, groups, steps)
        pull = Regulariser(1 - spec.target_ratio, self.settings.strongest, self.settings.weakest)
        distill = Distill() if spec.distill is True else spec.distill or None
        teacher = load_model(context.teacher_dir, context.task) if distill and context.teacher_dir else None
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
            extension=LeapTraining(masks, pull, context.budget(groups), self.settings, steps),
        )
        densities = masks.densities()
        kept = masks.bake(model)
        return context.outcome(groups, kept, steps=result.steps, loss=result.loss, density=densities)

    def _masks(self, context: Context, groups: dict[str, Units], steps: int) -> LearnedMasks:
        warmth = temperature(self.settings, steps, 1 - context.spec.target_ratio)
        shared = context.spec.allocation == "native" and context.granularity.kind == "structured"
        owners = [0] * len(groups) if shared else list(range(len(groups)))
        thresholds = Thresholds(max(owners) + 1, warmth, self.settings.chain_rule)
        return LearnedMasks(groups, owners, thresholds, context.total_cost)


def temperature(settings: Leap.Settings, steps: int, target: float) -> float:
    """The temperature of the thresholds for a run of `steps` that keeps the fraction `target`."""
    way = START - logit(target)
    return settings.temperature or _REACHED_AFTER * _reach(settings, steps) / way


def _reach(settings: Leap.Settings, steps: int) -> float:
    """How far the optimizer can move a threshold before the masks are frozen: a sum of learning rates."""
    return settings.score_learning_rate * sum(_rates(settings, steps))


def _wander(settings: Leap.Settings, steps: int) -> float:
    """How far the optimizer moves a score whose gradient is noise: the root of the sum of squares.

    Grows with the root of the steps, and what a clear gradient does with the steps: the longer the run, the more
    movement decides and the less magnitude.
    """
    return settings.score_learning_rate * math.hypot(*_rates(settings, steps))


def _rates(settings: Leap.Settings, steps: int) -> list[float]:
    warmup = math.ceil(settings.warmup_fraction * steps)
    return [linear_decay(step, steps, warmup) for step in range(math.floor(settings.freeze_at * steps))]


def _steps(options: Training, rows: int) -> int:
    return options.max_steps or math.ceil(options.epochs * math.ceil(rows / options.batch_size))
