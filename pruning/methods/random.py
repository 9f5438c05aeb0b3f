"""Random pruning: the floor that every method must be above."""

import torch
from pydantic import Field

from pruning.masking.rungs import keep_units
from pruning.masking.select import Scope
from pruning.methods import Context, Method, Outcome


class Random(Method):
    """Drop units drawn at random from the seed; every unit is as likely to go as any other.

    Every matrix, or every layer's heads and neurons, keeps at least one unit.
    """

    name = "random"
    title = "Random"
    summary = (
        "Drops weights, blocks, rows, heads or neurons at random, in one shot: the floor of every comparison."
    )
    granularities = frozenset({"unstructured", "block", "row", "neuron", "head", "structured", "hybrid"})
    measures = frozenset({"weights", "flops", "parameters", "latency"})
    cuts_many = True

    class Settings(Method.Settings):
        """Options of random pruning."""

        scope: Scope = Field(
            default="global",
            description="global: all units compete. local: every matrix (or the heads, and the neurons, of "
            "every layer) keeps the same fraction. With allocation native all layers keep the same width "
            "anyway.",
        )

    settings: Settings

    def prune(self, context: Context) -> Outcome:
        """Prune to the asked ratio; nothing is measured and nothing is trained."""
        groups = context.groups()
        generator = torch.Generator().manual_seed(context.spec.seed)
        scores = {
            name: torch.rand(group.count, generator=generator).to(context.device)
            for name, group in groups.items()
        }
        even = context.spec.allocation == "native"
        masks = keep_units(groups, scores, context.budget(groups), self.settings.scope, even=even)
        for name, group in groups.items():
            group.clear(masks[name])
        return context.outcome(groups, masks)
