"""LEAP: learnable pruning for transformers (Yao, Wu, Ma, Shen, Keutzer, He; arXiv 2105.14636)."""

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from pruning.masking.schedule import logit
from pruning.masking.thresholds import START, ThresholdMasks, Thresholds
from pruning.masking.units import Units
from pruning.methods import Context, Outcome
from pruning.methods._learned import (
    ANY_UNITS,
    LearnedMethod,
    LearnedSettings,
    LearnedTraining,
    learning_rates,
    memory,
)
from pruning.methods._multilevel import multiples, prune_levels
from pruning.methods._sensing import PriorSettings, Sensing, ranking
from pruning.planning.catalogue import GRANULARITIES
from pruning.planning.length import training_steps
from pruning.planning.levels import stage_steps, structured_ratio

_NEAR = 3e-4
"""Below this squared excess over the target the coefficient is a fifth of the weakest (released code)."""

_REACHED_AFTER = 0.5
"""The part of the thresholds' possible travel after which the target ratio is reached."""

_SHORTEST_WAY = 1.0
"""For a target next to 1, which thresholds have reached at the start."""

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
        rank = ranking(masks, settings, steps, settings.score_learning_rate, settings.prior, "local")
        self.sensing = Sensing(masks, settings.prune_from, rank)

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
        self.sensing.advance(step, total)
        begin = self.sensing.steps(total)
        if not self.settled(step, total) and step >= begin and (step - begin) % _REFRESH_EVERY == 0:
            self.masks.refresh()

    def observe(self) -> None:
        """Measure sensitivities while nothing is dropped yet."""
        self.sensing.observe()


class Leap(LearnedMethod):
    """Scores learn which units stay, by the straight-through estimator; thresholds learn how many."""

    name = "leap"
    title = "LEAP"
    summary = (
        "Learns while training which units stay and, by one threshold per matrix, how many (Yao et al. 2022)."
    )
    granularities = ANY_UNITS | {"multilevel"}
    schedule_steps = 2  # the learning rate of the first one is 0

    class Settings(LearnedSettings, PriorSettings):
        """The training recipe, and LEAP's own options."""

        score_learning_rate: float = Field(
            default=1e-2,
            gt=0,
            le=1,
            description="Learning rate of scores and thresholds (Adam, no weight decay).",
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
        structured_ratio: float | None = Field(
            default=None,
            gt=0,
            lt=1,
            description="Of granularity multilevel: the part of the weights that the first stage removes as heads and "
            "neurons; less than target_ratio. What both stages keep multiplies; by default the second keeps the "
            "smaller part, as published: of 15 % 0.5 and 0.3.",
            json_schema_extra={GRANULARITIES: ["multilevel"]},
        )
        structured_steps: float | None = Field(
            default=None,
            ge=0.1,
            le=0.9,
            description="Of granularity multilevel: the part of the steps that the first stage has; half by default.",
            json_schema_extra={GRANULARITIES: ["multilevel"]},
        )

    settings: Settings

    def prune(self, context: Context) -> Outcome:
        """Train and prune in one run, of `multilevel` in two."""
        if context.granularity.kind != "multilevel":
            return super().prune(context)
        settings = self.settings
        ratio = structured_ratio(settings.structured_ratio, context.spec, context.shape)
        steps = stage_steps(training_steps(settings, len(context.train)), settings.structured_steps)
        first, second = (Leap(settings.model_copy(update={"max_steps": count})) for count in steps)
        return prune_levels(context, first, second, ratio)

    def learner(self, context: Context, groups: Mapping[str, Units], steps: int) -> LeapTraining:
        """Scores for every unit, and a threshold for every group; one for each kind where layers have one size."""
        warmth = temperature(self.settings, steps, 1 - context.ratio)
        native = context.spec.allocation == "native"
        kinds = [(group.count, group.cost) for group in groups.values()]
        different = list(dict.fromkeys(kinds))
        owners = [different.index(kind) for kind in kinds] if native else list(range(len(groups)))
        thresholds = Thresholds(max(owners) + 1, warmth, self.settings.chain_rule)
        granularity = context.granularity
        whole = multiples(groups, granularity.shape or (1, 1)) if granularity.kind == "multilevel" else {}
        masks = ThresholdMasks(groups, owners, thresholds, context.total_cost, whole, even=native)
        pull = Regulariser(1 - context.ratio, self.settings.strongest, self.settings.weakest)
        return LeapTraining(masks, pull, context.budget(groups), self.settings, steps)


def temperature(settings: Leap.Settings, steps: int, target: float) -> float:
    """The temperature of the thresholds for a run of `steps` that keeps the fraction `target`."""
    way = max(_SHORTEST_WAY, START - logit(target))
    return settings.temperature or _REACHED_AFTER * _reach(settings, steps) / way


def _reach(settings: Leap.Settings, steps: int) -> float:
    """How far the optimizer can move a threshold before the masks are frozen: a sum of learning rates."""
    return settings.score_learning_rate * sum(learning_rates(settings, steps))
