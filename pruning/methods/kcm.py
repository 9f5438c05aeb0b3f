"""Kernelized Convex Masking: FFN neurons without labels, gradients or training (Nova, Dai, Schuurmans, ICML 2023).

"Gradient-Free Structured Pruning with Unlabeled Data". There is no released code: the kernel is that of the paper, the
combination of its two rankings and the scaling of what stays are ours, as told below.
"""

from pydantic import Field
from torch import Tensor

from pruning.knowledge.representatives import self_representation, unit_range
from pruning.knowledge.scores import RowGradients
from pruning.masking.rungs import keep_units
from pruning.methods._searched import Masks, Search, SearchedMethod, SearchedSettings


class KCM(SearchedMethod):
    """Keep the neurons that others cannot stand for and that say much.

    The score is the product of both, each brought to 0..1 within its layer: the self-representation of the neuron's
    column of FFN out under a Gaussian kernel, and the norm of its activation on unlabelled rows.
    """

    name = "kcm"
    title = "KCM"
    summary = "Removes FFN neurons without labels, gradients or retraining; reaches no further than the FFNs."
    granularities = frozenset({"neuron"})

    class Settings(SearchedSettings):
        """Options of KCM; of the rows no label is looked at."""

        kernel_width: float = Field(
            default=1.0, gt=0, le=1e6, description="Width of the Gaussian kernel between neurons (sigma)."
        )
        tolerance: float = Field(
            default=0.01,
            gt=0,
            lt=1,
            description="Relative change below which the coefficients of the kernel have settled (alpha).",
        )

    settings: Settings

    def choose(self, search: Search) -> tuple[Masks, Masks]:
        """The masks of the neurons with the highest scores; the dense model is what is imitated."""
        scores = search.context.measured("scores", lambda: self._scores(search))
        even = search.context.spec.allocation == "native"
        budget = search.context.budget(search.groups)
        return keep_units(search.groups, scores, budget, "global", even=even), {}

    def _scores(self, search: Search) -> dict[str, Tensor]:
        """How little others stand for each neuron, times how much it says: (neurons,) by site."""
        knowledge, *_ = search.stream.measure(
            [site.sublayer for site in search.sites],
            None,
            lambda part: RowGradients(part.output.weight.shape[1]),
        )
        scores = {}
        for site, known in zip(search.sites, knowledge, strict=True):
            if site.units:
                columns = site.sublayer.output.weight.T
                alone = self_representation(columns, self.settings.kernel_width, self.settings.tolerance)
                activation = known.representational.activation
                scores[site.name] = unit_range(alone.cpu()) * unit_range(activation)
        return scores
