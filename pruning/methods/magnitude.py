"""Magnitude pruning: drop what is small. One shot, no data; the baseline of every comparison."""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from pruning.masking.rungs import keep_units
from pruning.masking.select import Scope, keep_in_groups
from pruning.masking.units import Units
from pruning.methods import Context, Method, Outcome


class Magnitude(Method):
    """Rank units by the mean magnitude of their weights and drop the lowest.

    The mean makes units of different size comparable per weight: dropping a head saves what dropping many
    neurons saves. Every matrix, or every layer's heads and neurons, keeps at least one unit.
    """

    name = "magnitude"
    title = "Magnitude"
    summary = (
        "Drops the smallest weights, blocks, rows, heads or neurons in one shot, without data: a baseline."
    )
    granularities = frozenset(
        {"unstructured", "n_m", "block", "row", "neuron", "head", "structured", "hybrid"}
    )
    measures = frozenset({"weights", "flops", "parameters", "latency"})
    cuts_many = True

    class Settings(Method.Settings):
        """Options of magnitude pruning."""

        norm: Literal["l1", "l2"] = Field(
            default="l2",
            description="How the weights of a block, row, head or neuron are pooled: mean of |w|, or root of the "
            "mean of w squared. Single weights are ranked alike by both.",
        )
        scope: Scope = Field(
            default="global",
            description="global: all units compete. local: every matrix (or the heads, and the neurons, of "
            "every layer) keeps the same fraction. With allocation native all layers keep the same width "
            "anyway, and of N:M every M consecutive weights compete.",
        )

    settings: Settings

    def prune(self, context: Context) -> Outcome:
        """Prune to the asked ratio; nothing is trained."""
        groups = context.groups()
        scores = {name: self._score(group) for name, group in groups.items()}
        masks = self._masks(context, groups, scores)
        for name, group in groups.items():
            group.clear(masks[name])
        return context.outcome(groups, masks)

    def _masks(
        self, context: Context, groups: Mapping[str, Units], scores: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """The mask (count,) of each group."""
        if context.granularity.kind == "n_m":
            # A row is a whole number of groups, so that rows one after the other are groups one after the other.
            zeros, size = context.granularity.shape or (0, 1)
            return {name: keep_in_groups(score, size - zeros, size) for name, score in scores.items()}
        even = context.spec.allocation == "native"
        return keep_units(groups, scores, context.budget(groups), self.settings.scope, even=even)

    def _score(self, group: Units) -> Tensor:
        """Mean magnitude of each unit's weights, (count,)."""
        if self.settings.norm == "l1":
            return group.pool(torch.abs) / group.weights
        return (group.pool(torch.square) / group.weights).sqrt()
