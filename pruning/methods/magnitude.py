"""Magnitude pruning: drop what is small. One shot, no data; the baseline of every comparison."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from pruning.masking.select import SLACK, keep_count, keep_fractions, keep_top, keep_within
from pruning.masking.units import Units
from pruning.methods import Context, Method, Outcome


class Magnitude(Method):
    """Rank units by the mean magnitude of their weights and drop the lowest.

    The mean makes units of different size comparable per weight: dropping a head saves what dropping many
    neurons saves. Every matrix, or every layer's heads and neurons, keeps at least one unit.
    """

    name = "magnitude"
    title = "Magnitude"
    summary = "Drops the smallest weights, blocks, rows, heads or neurons in one shot, without data: a baseline."
    granularities = frozenset({"unstructured", "block", "row", "neuron", "head", "structured", "hybrid"})
    measures = frozenset({"weights", "flops"})

    class Settings(Method.Settings):
        """Options of magnitude pruning."""

        norm: Literal["l1", "l2"] = Field(
            default="l2",
            description="How the weights of a block, row, head or neuron are pooled: mean of |w|, or root of the "
            "mean of w squared. Single weights are ranked alike by both.",
        )
        scope: Literal["global", "local"] = Field(
            default="global",
            description="global: all units compete. local: every matrix (or the heads, and the neurons, of "
            "every layer) keeps the same fraction. With allocation native all layers keep the same width "
            "anyway.",
        )

    settings: Settings

    def prune(self, context: Context) -> Outcome:
        """Prune to the asked ratio; nothing is trained."""
        groups = context.groups()
        scores = {name: self._score(group) for name, group in groups.items()}
        costs = {name: group.cost for name, group in groups.items()}
        budget = context.budget(groups)
        if context.spec.allocation == "native":
            width = math.floor(budget / sum(costs.values()) * (1 + SLACK))
            masks = {name: keep_top(score, width) for name, score in scores.items()}
        elif len(set(costs.values())) == 1:
            masks = self._keep_equal(scores, budget / next(iter(costs.values())))
        else:
            if self.settings.scope == "local":
                scores = {name: _ranks(score) for name, score in scores.items()}
            masks = keep_within(scores, costs, budget)
        for name, group in groups.items():
            group.clear(masks[name])
        return context.outcome(groups, masks)

    def _keep_equal(self, scores: Mapping[str, Tensor], count: float) -> dict[str, Tensor]:
        """Keep so many units, which cost the same everywhere."""
        keep = keep_count if self.settings.scope == "global" else keep_fractions
        return keep(scores, math.floor(count * (1 + SLACK)))

    def _score(self, group: Units) -> Tensor:
        """Mean magnitude of each unit's weights, (count,)."""
        if self.settings.norm == "l1":
            return group.pool(torch.abs) / group.weights
        return (group.pool(torch.square) / group.weights).sqrt()


def _ranks(scores: Tensor) -> Tensor:
    """Each score's rank among all, in (0, 1): (count,)."""
    order = torch.sort(scores, stable=True, descending=True).indices
    ranks = torch.empty_like(scores)
    ranks[order] = torch.arange(len(scores), 0, -1, dtype=scores.dtype, device=scores.device) - 0.5
    return ranks / len(scores)
