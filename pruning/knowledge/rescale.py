"""One scale for each unit that stays, so that a pruned sub-layer says what a fuller one does (Kwon et al. 2022)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from scipy.sparse.linalg import lsmr
from torch import Tensor

from pruning.errors import InvalidModel
from pruning.knowledge.pulse import Pulse
from pruning.knowledge.sites import Site
from pruning.knowledge.steps import Step, Steps
from pruning.knowledge.stream import Stream

_LARGEST = 10.0
"""Scales beyond this are not trusted."""
_CONVERGED = (0, 1, 2, 4, 5)
_STEPS = 1000
"""Iterations that even a few scales may take: as many as there are, LSMR's own limit, are too few when rounded."""


def scales(products: Tensor, right: Tensor) -> tuple[Tensor, float]:
    """The scales x (units,) near 1 of the problem that `NormalEquations.by_unit` gives, and the damping used.

    Minimises |M (x - 1) - (r - M 1)|^2 + damping^2 |x - 1|^2 by LSMR. The released code damps by 1 and leaves all
    further sub-layers alone where LSMR does not converge or a scale leaves -10..10; here the damping grows tenfold
    until neither happens, which ends because it draws every scale to 1. Raises InvalidModel for values not finite.
    """
    short = (right - products.sum(1)).cpu().numpy()
    matrix = products.cpu().numpy()
    if not (torch.isfinite(products).all() and torch.isfinite(right).all()):
        raise InvalidModel(
            "The model's activations are not finite on the training rows.",
            param="/model",
            remedy="Check that the model gives finite logits on this dataset in float32.",
        )
    damping = 1.0
    while True:
        found, reason, *_ = lsmr(matrix, short, damp=damping, maxiter=max(_STEPS, 10 * len(matrix)))
        solution = 1 + torch.from_numpy(found)
        if reason in _CONVERGED and float(solution.abs().max()) <= _LARGEST:
            return solution.to(right.device), damping
        damping *= 10


@dataclass(frozen=True)
class Rescaling:
    """Scales the units of all sites that are pruned, bottom to top.

    `fuller` and `kept` are masks (units,) bool by site, of those that are not whole. The model that is imitated keeps
    `fuller`, ours `kept` with what was scaled below it.
    """

    sites: Sequence[Site]
    stream: Stream
    steps: Steps
    pulse: Pulse
    fuller: Mapping[str, Tensor]
    kept: Mapping[str, Tensor]

    def run(self) -> list[Step]:
        """Scale every site and bake it into the model; finished ones are not done again."""
        return [self._rescale(index, site) for index, site in enumerate(self.sites)]

    def _rescale(self, index: int, site: Site) -> Step:
        fuller = site.cut(_mask(self.fuller, site))
        step = self.steps.load(index)
        self.pulse.begin(f"rescaling {site.name}", 2.0 * site.sublayer.work)
        if step is None:
            step = self._solve(index, site)
            self.steps.save(index, step)
        else:
            self.stream.lift_teacher(fuller)
        self.pulse.begin(f"passing {site.name}", float(site.sublayer.work))
        self.stream.lift_student(site.after(step))
        site.bake(step)
        return step

    def _solve(self, index: int, site: Site) -> Step:
        """Moves the imitated model past the site."""
        kept = _mask(self.kept, site)
        pruned, fuller = site.cut(kept), site.cut(_mask(self.fuller, site))
        if not kept.any() or not site.units:
            self.stream.lift_teacher(fuller)
            return Step(kept, pruned.output.clone(), {})
        equations = self.stream.equations(fuller, pruned, top=index == len(self.sites) - 1)
        found, damping = scales(*equations.by_unit(pruned.output.weight, pruned.size))
        weight = pruned.output.weight * found.repeat_interleave(pruned.size).to(pruned.output.weight)
        return Step(kept, replace(pruned.output, weight=weight), {"damping": damping})


def total_work(sites: Sequence[Site]) -> float:
    """What a batch costs in one measurement and on the way up, in weights met per token."""
    return sum(5.0 * site.sublayer.work for site in sites)


def _mask(masks: Mapping[str, Tensor], site: Site) -> Tensor:
    """All units of a site that is not pruned stay."""
    return masks.get(site.name, torch.ones(site.sublayer.units, dtype=torch.bool))
