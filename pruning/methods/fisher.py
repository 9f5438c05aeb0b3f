"""Fisher mask search: structured pruning in one shot, with labels but without training (Kwon et al., NeurIPS 2022).

"A Fast Post-Training Pruning Framework for Transformers": masks by the diagonal Fisher information, rearranged by its
blocks, then one scale for each unit that stays. The mathematics is in `pruning.knowledge`.
"""

import math
from collections.abc import Mapping, Sequence

from pydantic import Field
from torch import Tensor

from pruning.knowledge.draw import Draw
from pruning.knowledge.fisher import mask_search, rearrange
from pruning.knowledge.predictive import drawn_batches
from pruning.knowledge.pulse import Pulse
from pruning.knowledge.rescale import Rescaling, total_work
from pruning.knowledge.scores import BatchGradients
from pruning.knowledge.signals import mistake
from pruning.knowledge.sites import Site, sites_of
from pruning.knowledge.steps import Steps
from pruning.knowledge.stream import Ends, Stream
from pruning.knowledge.sublayers import Attention
from pruning.masking.masks import kept_units
from pruning.masking.rungs import from_rungs, keep_units, to_rungs
from pruning.masking.units import Units
from pruning.methods import Context, Method, Outcome

_FULLER = "fuller/"
"""Prefix of the masks that are imitated, beside those that are delivered."""


class Fisher(Method):
    """Keep the heads and neurons whose gates the loss of the dense model is most sensitive to.

    One gradient of every gate for each batch of labelled rows is all that the choice is made from.
    """

    name = "fisher"
    title = "Fisher mask search"
    summary = "Removes heads and neurons without retraining, by the Fisher information of their masks; needs labels."
    granularities = frozenset({"structured", "neuron", "head"})
    measures = frozenset({"flops", "weights", "parameters", "latency"})
    cuts_many = True
    empties_sublayers = True

    class Settings(Method.Settings):
        """Options of Fisher mask search, with the published values as defaults."""

        calibration_rows: int = Field(
            default=2048,
            ge=1,
            le=10_000_000,
            description="Labelled training rows to take gradients of and to rescale with; all when there are fewer.",
        )
        gradient_batch: int = Field(
            default=1,
            ge=1,
            le=65_536,
            description="Rows whose mean loss has one gradient; squares of these are the Fisher information. 1 is the "
            "empirical Fisher information of the paper, the released code takes 32.",
        )
        rearrange: bool = Field(
            default=True,
            description="Whether units are exchanged within a layer so that the mistakes made by those dropped cancel.",
        )
        rescale: bool = Field(
            default=True,
            description="Whether units that stay are scaled, so that every sub-layer says what that of a model says "
            "which keeps the square root of the part that stays.",
        )

    settings: Settings

    def prune(self, context: Context) -> Outcome:
        """Prune to the asked ratio; the masks and every rescaled sub-layer are kept in `context.work`."""
        groups = context.groups()
        sites = sites_of(context.model, groups)
        draw = Draw.rows(context.train, self.settings.calibration_rows, context.spec.seed)
        batches = draw.batches(context.device, sum(site.sublayer.work for site in sites))
        pulse = Pulse(context, len(batches) * total_work(sites))
        steps = Steps(context.work)
        with Ends.of(context.model, context.task) as ends:
            stream = Stream(ends, batches, pulse.beat, bf16=context.spec.precision == "bf16")
            if not steps.chosen:
                pulse.begin("measuring", 2.0 * sum(site.sublayer.work for site in sites))
                gradients = context.measured(
                    "gradients", lambda: self._gradients(context, sites, stream, len(draw))
                )
                steps.chosen = self._choose(context, sites, groups, gradients)
            masks = {name: mask for name, mask in steps.chosen.items() if name in groups}
            fuller = {name: steps.chosen[_FULLER + name] for name in groups}
            if self.settings.rescale:
                Rescaling(sites, stream, steps, pulse, fuller, masks).run()
        for name, group in groups.items():
            group.clear(masks[name].to(context.device))
        details = {"rows": len(draw), "tokens": int(draw.lengths.sum())}
        return Outcome(kept=kept_units(context.shape, groups, masks), details=details)

    def _gradients(
        self, context: Context, sites: Sequence[Site], stream: Stream, rows: int
    ) -> dict[str, Tensor]:
        """The gradient of every batch's mean loss by the gate of every unit, (batches, units) by site."""
        batch_of_row = drawn_batches(rows, self.settings.gradient_batch)
        knowledge, _ = stream.measure(
            [site.sublayer for site in sites],
            mistake(context.task),
            lambda part: BatchGradients(batch_of_row, part.output.weight.shape[1], part.size),
        )
        gathered = [known.predictive for known in knowledge]
        return {
            site.name: each.values
            for site, each in zip(sites, gathered, strict=True)
            if isinstance(each, BatchGradients)
        }

    def _choose(
        self,
        context: Context,
        sites: Sequence[Site],
        groups: Mapping[str, Units],
        gradients: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """The masks of the result, and those of the model that it imitates, which keeps the square root of its part.

        The latter are as they were found, so that it holds all that the result was chosen from.
        """
        budget = context.budget(groups)
        whole = sum(group.count * group.cost for group in groups.values())
        fuller = self._search(context, sites, groups, gradients, whole * math.sqrt(budget / whole))
        kept = self._search(context, sites, groups, gradients, budget)
        if self.settings.rearrange:
            kept = {name: rearrange(gradients[name], mask) for name, mask in kept.items()}
        return {**kept, **{_FULLER + name: mask for name, mask in fuller.items()}}

    def _search(
        self,
        context: Context,
        sites: Sequence[Site],
        groups: Mapping[str, Units],
        gradients: Mapping[str, Tensor],
        budget: float,
    ) -> dict[str, Tensor]:
        importance = {name: gradients[name].double().square().sum(0) for name in groups}
        if context.spec.allocation == "native":
            return keep_units(groups, importance, budget, "global", even=True)
        heads = [site.name for site in sites if site.units and isinstance(site.sublayer, Attention)]
        rungs = {name: group.step * to_rungs(importance[name], group) for name, group in groups.items()}
        kept = mask_search(rungs, heads, {name: group.price for name, group in groups.items()}, budget)
        return {name: from_rungs(importance[name], kept[name], group) for name, group in groups.items()}
