"""The climb from the lowest sub-layer to the highest: measure, choose, refit, go on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from pruning.knowledge.pulse import Pulse
from pruning.knowledge.search import search
from pruning.knowledge.steps import Step, Steps
from pruning.knowledge.stream import Knowledge, Loss, Stream
from pruning.knowledge.sublayers import Affine, Attention, FeedForward, Sublayer
from pruning.masking.rungs import cost_of, from_rungs, to_rungs
from pruning.masking.select import even_width, keep_top
from pruning.masking.units import SlotUnits


@dataclass(frozen=True)
class Site:
    """One sub-layer in its model: its tensors, the module that holds its output projection, and its units.

    `units` is None where nothing may be dropped.
    """

    name: str
    sublayer: Sublayer
    reader: nn.Linear
    units: SlotUnits | None


@dataclass(frozen=True)
class Scoring:
    """What knowledge is worth: the loss, lambda (representational against predictive) and mu (heads)."""

    loss: Loss
    representation_weight: float
    head_weight: float

    def score(self, site: Site, knowledge: Knowledge) -> Tensor:
        """Knowledge per cost of each unit, (units,), equations 10 and 11."""
        assert site.units is not None  # noqa: S101 - only prunable sites are scored
        weight = self.head_weight if isinstance(site.sublayer, Attention) else 1.0
        return weight * knowledge.units(self.representation_weight) / site.units.cost


def total_work(sites: Sequence[Site]) -> float:
    """What a batch costs on its whole way up, in weights met per token."""
    return sum(
        _measuring(sites[index:]) + _refitting(site) + _lifting(site) for index, site in enumerate(sites)
    )


def _measuring(sites: Sequence[Site]) -> float:
    return 2.0 * sum(site.sublayer.work for site in sites) if sites[0].units else 0.0


def _refitting(site: Site) -> float:
    return 2.0 * site.sublayer.work


def _lifting(site: Site) -> float:
    return float(site.sublayer.work)


class Climb:
    """Prunes the sites one after the other. What is decided is final: later measurements see it, never change it."""

    def __init__(
        self,
        sites: Sequence[Site],
        stream: Stream,
        scoring: Scoring,
        steps: Steps,
        pulse: Pulse,
        batches: int,
    ) -> None:
        self._sites = sites
        self._stream = stream
        self._scoring = scoring
        self._steps = steps
        self._pulse = pulse
        self._batches = batches
        self._answers = steps.answers
        self._intact = True  # nothing dropped yet: the pruned model still is the dense one

    def run(self, budget: float, *, even: bool) -> list[Step]:
        """Prune every site so that all prunable units that stay cost at most `budget`; returns one step per site.

        `even` keeps equally many units at every prunable site, else sites compete. Sites are pruned in their model,
        which is full-size afterwards and zero where units were dropped.
        """
        steps = []
        prices = [site.units.price for site in self._sites if site.units]
        width = even_width(prices, budget) if even else None
        for index, site in enumerate(self._sites):
            step = self._steps.load(index)
            if step is None:
                step = self._decide(index, budget, width)
                self._steps.save(index, step)
            else:
                self._replay(index)
            self._pass(site, step)
            if site.units:
                budget -= cost_of(site.units, step.kept)
            steps.append(step)
        return steps

    def _decide(self, index: int, budget: float, width: int | None) -> Step:
        """Choose and refit; the dense model moves past the site."""
        site = self._sites[index]
        kept = torch.ones(site.sublayer.units, dtype=torch.bool)
        if site.units:
            kept = self._choose(self._sites[index:], budget, width)
        whole = bool(kept.all())
        self._pulse.begin(f"refitting {site.name}", _refitting(site))
        if whole and (self._intact or isinstance(site.sublayer, FeedForward)):
            # As the released code has it: an FFN that keeps all is left alone, an attention is refitted, to repair
            # what went wrong below. While nothing went wrong there is nothing to repair.
            self._stream.lift_teacher(site.sublayer)
            return Step(kept, site.sublayer.output.clone(), {})
        return self._refit(site, kept)

    def _choose(self, sites: Sequence[Site], budget: float, width: int | None) -> Tensor:
        """The units of the first site that stay, (units,) bool."""
        self._pulse.begin(f"measuring {sites[0].name}", _measuring(sites))
        stack = [site.sublayer for site in sites]
        knowledge, logits = self._stream.measure(stack, self._scoring.loss, self._answers)
        if self._answers is None:
            self._answers = self._steps.answers = logits
        prunable = [(site, known) for site, known in zip(sites, knowledge, strict=True) if site.units]
        scores = [self._scoring.score(site, known) for site, known in prunable]
        groups = [site.units for site, _ in prunable if site.units]
        if width is not None:
            return keep_top(scores[0], min(width * groups[0].step, len(scores[0])))
        rungs = [to_rungs(score, group) for score, group in zip(scores, groups, strict=True)]
        return from_rungs(scores[0], search(rungs, [group.price for group in groups], budget)[0], groups[0])

    def _refit(self, site: Site, kept: Tensor) -> Step:
        pruned = site.sublayer.keep(kept.to(site.reader.weight.device))
        equations = self._stream.equations(site.sublayer, pruned)
        if not kept.any():
            # The released code drops such a sub-layer, bias and all; the mean of what it should say costs nothing.
            output = replace(pruned.output, bias=pruned.output.bias + equations.mean.float())
            return Step(kept, output, {})
        fit = equations.solve(pruned.output.weight)
        notes = {"ridge": fit.ridge, "error_before": fit.error_before, "error_after": fit.error_after}
        return Step(kept, replace(pruned.output, weight=fit.weight), notes)

    def _replay(self, index: int) -> None:
        """Move the dense model past a site that was finished before the job was interrupted."""
        self._pulse.skip(self._batches * _measuring(self._sites[index:]))
        self._pulse.begin(f"returning to {self._sites[index].name}", _refitting(self._sites[index]))
        self._stream.lift_teacher(self._sites[index].sublayer)

    def _pass(self, site: Site, step: Step) -> None:
        """Bake the step into the model and move the pruned model past the site."""
        weight = site.reader.weight
        kept = step.kept.to(weight.device)
        output = Affine(step.output.weight.to(weight.device), step.output.bias.to(weight.device))
        self._intact = self._intact and bool(kept.all())
        self._pulse.begin(f"passing {site.name}", _lifting(site))
        self._stream.lift_student(replace(site.sublayer.keep(kept), output=output))
        with torch.no_grad():
            weight[:, site.sublayer.columns(kept)] = output.weight
            if site.reader.bias is not None:
                site.reader.bias.copy_(output.bias)
        if site.units:
            site.units.clear(kept)
