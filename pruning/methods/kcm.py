"""Kernelized Convex Masking: FFN neurons without labels, gradients or training (Nova, Dai, Schuurmans, ICML 2023).

"Gradient-Free Structured Pruning with Unlabeled Data". There is no released code: the kernel is that of the paper, the
combination of its two rankings and the scaling of what stays are ours, as told below.
"""

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor

from pruning.knowledge.draw import Draw
from pruning.knowledge.pulse import Pulse
from pruning.knowledge.representatives import self_representation, unit_range
from pruning.knowledge.rescale import Rescaling, total_work
from pruning.knowledge.scores import RowGradients
from pruning.knowledge.sites import Site, sites_of
from pruning.knowledge.steps import Steps
from pruning.knowledge.stream import Ends, Stream
from pruning.masking.masks import kept_units
from pruning.masking.rungs import keep_units
from pruning.methods import Context, Method, Outcome


class KCM(Method):
    """Keep the neurons that others cannot stand for and that say much.

    The score is the product of both, each brought to 0..1 within its layer: the self-representation of the neuron's
    column of FFN out under a Gaussian kernel, and the norm of its activation on unlabelled rows.
    """

    name = "kcm"
    title = "KCM"
    summary = "Removes FFN neurons without labels, gradients or retraining; reaches no further than the FFNs."
    granularities = frozenset({"neuron"})
    measures = frozenset({"flops", "weights", "parameters", "latency"})
    cuts_many = True

    class Settings(Method.Settings):
        """Options of KCM."""

        calibration_rows: int = Field(
            default=2048,
            ge=1,
            le=10_000_000,
            description="Training rows, without their labels, to see activations on; all when there are fewer.",
        )
        kernel_width: float = Field(
            default=1.0, gt=0, le=1e6, description="Width of the Gaussian kernel between neurons (sigma)."
        )
        tolerance: float = Field(
            default=0.01,
            gt=0,
            lt=1,
            description="Relative change below which the coefficients of the kernel have settled (alpha).",
        )
        rescale: bool = Field(
            default=True,
            description="Whether neurons that stay are scaled, so that every sub-layer says what the dense one says.",
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
                scores = context.measured("scores", lambda: self._scores(sites, stream))
                even = context.spec.allocation == "native"
                steps.chosen = keep_units(groups, scores, context.budget(groups), "global", even=even)
            masks = steps.chosen
            if self.settings.rescale:
                Rescaling(sites, stream, steps, pulse, {}, masks).run()
        for name, group in groups.items():
            group.clear(masks[name].to(context.device))
        details = {"rows": len(draw), "tokens": int(draw.lengths.sum())}
        return Outcome(kept=kept_units(context.shape, groups, masks), details=details)

    def _scores(self, sites: Sequence[Site], stream: Stream) -> dict[str, Tensor]:
        """The score of every neuron, (units,) by site."""
        knowledge, _ = stream.measure(
            [site.sublayer for site in sites], None, lambda part: RowGradients(part.output.weight.shape[1])
        )
        scores = {}
        for site, known in zip(sites, knowledge, strict=True):
            if site.units:
                columns = site.sublayer.output.weight.T
                alone = self_representation(
                    columns, self.settings.kernel_width, self.settings.tolerance
                ).cpu()
                scores[site.name] = unit_range(alone) * unit_range(known.representational.activation)
        return scores
