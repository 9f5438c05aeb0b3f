"""Fisher mask search: structured pruning in one shot, with labels but without training (Kwon et al., NeurIPS 2022).

"A Fast Post-Training Pruning Framework for Transformers": masks by the diagonal Fisher information, rearranged by its
blocks, then one scale for each unit that stays. The mathematics is in `pruning.knowledge`.
"""

import math
from collections.abc import Mapping

from pydantic import Field
from torch import Tensor

from pruning.knowledge.fisher import mask_search, rearrange
from pruning.knowledge.predictive import drawn_batches
from pruning.knowledge.scores import BatchGradients
from pruning.knowledge.signals import mistake
from pruning.knowledge.sublayers import Attention
from pruning.masking.rungs import from_rungs, keep_units, to_rungs
from pruning.methods._searched import Masks, Search, SearchedMethod, SearchedSettings


class Fisher(SearchedMethod):
    """Keep the heads and neurons whose gates the loss of the dense model is most sensitive to.

    One gradient of every gate for each batch of labelled rows is all that the choice is made from.
    """

    name = "fisher"
    title = "Fisher mask search"
    summary = "Removes heads and neurons without retraining, by the Fisher information of their masks; needs labels."
    granularities = frozenset({"structured", "neuron", "head"})
    empties_sublayers = True

    class Settings(SearchedSettings):
        """Options of Fisher mask search, with the published values as defaults."""

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

    settings: Settings

    def choose(self, search: Search) -> tuple[Masks, Masks]:
        """The masks of the result, and those of the model that it imitates, which keeps the square root of its part.

        The latter are as they were found, so that it holds all that the result was chosen from.
        """
        gradients = search.context.measured("gradients", lambda: self._gradients(search))
        budget = search.context.budget(search.groups)
        whole = sum(group.count * group.cost for group in search.groups.values())
        fuller = self._search(search, gradients, whole * math.sqrt(budget / whole))
        kept = self._search(search, gradients, budget)
        if self.settings.rearrange:
            kept = {name: rearrange(gradients[name], mask) for name, mask in kept.items()}
        return kept, fuller

    def _gradients(self, search: Search) -> dict[str, Tensor]:
        """The gradient of every batch's mean loss by the gate of every unit, (batches, units) by site."""
        batch_of_row = drawn_batches(search.rows, self.settings.gradient_batch)
        knowledge, *_ = search.stream.measure(
            [site.sublayer for site in search.sites],
            mistake(search.context.task),
            lambda part: BatchGradients(batch_of_row, part.output.weight.shape[1], part.size),
        )
        gathered = [known.predictive for known in knowledge]
        return {
            site.name: each.values
            for site, each in zip(search.sites, gathered, strict=True)
            if isinstance(each, BatchGradients)
        }

    def _search(self, search: Search, gradients: Mapping[str, Tensor], budget: float) -> Masks:
        groups = search.groups
        importance = {name: gradients[name].double().square().sum(0) for name in groups}
        if search.context.spec.allocation == "native":
            return keep_units(groups, importance, budget, "global", even=True)
        heads = [site.name for site in search.sites if site.units and isinstance(site.sublayer, Attention)]
        rungs = {name: group.step * to_rungs(importance[name], group) for name, group in groups.items()}
        kept = mask_search(rungs, heads, {name: group.price for name, group in groups.items()}, budget)
        return {name: from_rungs(importance[name], kept[name], group) for name, group in groups.items()}
