"""LEAP: learnable pruning for transformers (Yao, Wu, Ma, Shen, Keutzer, He; arXiv 2105.14636)."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from pruning.masking.schedule import logit
from pruning.masking.thresholds import START, ThresholdMasks, Thresholds
from pruning.masking.units import Units
from pruning.methods import Context
from pruning.methods._learned import (
    LearnedMethod,
    LearnedSettings,
    LearnedTraining,
    learning_rates,
    memory,
)

_NEAR = 3e-4
"""Below this squared excess over the target the coefficient is a fifth of the weakest (released code)."""

_REACHED_AFTER = 0.5
"""The part of the thresholds' possible travel after which the target ratio is reached."""

_MOMENTUM = 0.5
"""With the usual 0.9 the thresholds of a run of a few hundred steps shoot past the target by half."""

_REFRESH_EVERY = 5
"""Masks follow scores and thresholds every so many steps: both move slowly, and finding the k-th score of every
matrix at each step would cost much of a training step."""


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


class LeapTraining(LearnedTraining):
    """LEAP as an extension of training.

    First everything is kept while sensitivities are measured; then weights, scores and thresholds learn; then,
    with the masks frozen, the weights alone.
    """

    masks: ThresholdMasks
    settings: "Leap.Settings"

    def __init__(
        self,
        masks: ThresholdMasks,
        regulariser: Regulariser,
        budget: float,
        settings: "Leap.Settings",
        steps: int,
    ) -> None:
        super().__init__(masks, budget, settings)
        self.regulariser = regulariser
        self.steps = steps
        self.sensing = False

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Scores and thresholds, each with its own learning rate; no weight decay."""
        # The regulariser's gradient falls with the cube of the excess.
        return [
            {"params": self.masks.scores(), "lr": self.settings.score_learning_rate, "eps": 1e-10},
            {
                "params": [self.masks.thresholds.values],
                "lr": self.settings.score_learning_rate,
                "betas": (_MOMENTUM, memory(self.steps)),
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
        begin = math.floor(self.settings.prune_from * total)
        self.sensing = step < begin
        if step == begin:
            self.masks.rank_by_sensitivity(self.settings.prior * _wander(self.settings, total))
        if not self.settled(step, total) and step >= begin and (step - begin) % _REFRESH_EVERY == 0:
            self.masks.refresh()

    def observe(self) -> None:
        """Measure sensitivities while nothing is dropped yet."""
        if self.sensing:
            self.masks.sense()


class Leap(LearnedMethod):
    """Scores learn which units stay, by the straight-through estimator; thresholds learn how many."""

    name = "leap"
    title = "LEAP"
    summary = (
        "Learns while training which units stay and, by one threshold per matrix, how many (Yao et al. 2022)."
    )
    schedule_steps = 2  # the learning rate of the first one is 0

    class Settings(LearnedSettings):
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
        prune_from: float = Field(
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

    def learner(self, context: Context, groups: Mapping[str, Units], steps: int) -> LeapTraining:
        """Scores for every unit, and a threshold for every group; one for all where layers keep one width."""
        warmth = temperature(self.settings, steps, 1 - context.ratio)
        native = context.spec.allocation == "native"
        owners = [0] * len(groups) if native else list(range(len(groups)))
        thresholds = Thresholds(max(owners) + 1, warmth, self.settings.chain_rule)
        masks = ThresholdMasks(groups, owners, thresholds, context.total_cost)
        pull = Regulariser(1 - context.ratio, self.settings.strongest, self.settings.weakest)
        return LeapTraining(masks, pull, context.budget(groups), self.settings, steps)


def temperature(settings: Leap.Settings, steps: int, target: float) -> float:
    """The temperature of the thresholds for a run of `steps` that keeps the fraction `target`."""
    way = START - logit(target)
    return settings.temperature or _REACHED_AFTER * _reach(settings, steps) / way


def _reach(settings: Leap.Settings, steps: int) -> float:
    """How far the optimizer can move a threshold before the masks are frozen: a sum of learning rates."""
    return settings.score_learning_rate * sum(learning_rates(settings, steps))


def _wander(settings: Leap.Settings, steps: int) -> float:
    """How far the optimizer moves a score whose gradient is noise: the root of the sum of squares.

    Grows with the root of the steps, and what a clear gradient does with the steps: the longer the run, the more
    movement decides and the less the sensitivities.
    """
    return settings.score_learning_rate * math.hypot(*learning_rates(settings, steps))
