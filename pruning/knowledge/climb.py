"""The climb from the lowest sub-layer to the highest: measure, choose, refit, go on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pruning.knowledge.predictive import Predictive
from pruning.knowledge.pulse import Pulse
from pruning.knowledge.scores import per_unit
from pruning.knowledge.search import search
from pruning.knowledge.sites import Site
from pruning.knowledge.steps import Step, Steps
from pruning.knowledge.stream import Stream
from pruning.knowledge.sublayers import Attention, FeedForward
from pruning.masking.rungs import cost_of, from_rungs, to_rungs
from pruning.masking.select import keep_counts, keep_top
from pruning.masking.slot_units import SlotUnits


@dataclass(frozen=True)
class Scoring:
    """What knowledge is worth: how it is measured, lambda (representational against predictive) and mu (heads)."""

    predictive: Predictive
    rows: int
    representation_weight: float
    head_weight: float

    def score(self, site: Site, knowledge: Tensor) -> Tensor:
        """Knowledge per cost of each unit, (units,), equations 10 and 11, of what `Knowledge.columns` has."""
        assert site.units is not None  # noqa: S101 - only prunable sites are scored
        weight = self.head_weight if isinstance(site.sublayer, Attention) else 1.0
        predictive, representational = knowledge
        both = predictive + self.representation_weight * representational
        return weight * per_unit(both, site.sublayer.size) / site.units.cost


@dataclass(frozen=True)
class Rules:
    """How the climb goes. `even` keeps equally many units at every prunable site, else sites compete.

    `refit` solves for new weights of what reads the kept units; `released` solves as the released code does, with no
    ridge, and drops the bias of an emptied sub-layer where else the mean of what it should say stays. `once` chooses
    all units at the first site instead of measuring anew at each. Without `refit` and with `once`: the ablations.
    """

    even: bool = False
    refit: bool = True
    released: bool = False
    once: bool = False


Measured = Callable[[str, Callable[[], Mapping[str, Tensor]]], Mapping[str, Tensor]]
"""Gives what was measured of the dense model under a name before, else what the function measures now."""

_ANSWER, _PULL = "answer-", "pull-"


class Climb:
    """Prunes the sites one after the other. What is decided is final: later measurements see it, never change it.

    As long as nothing is dropped the dense model is measured, whatever the budget and lambda: `measured` keeps that.
    """

    def __init__(
        self,
        sites: Sequence[Site],
        stream: Stream,
        scoring: Scoring,
        rules: Rules,
        steps: Steps,
        pulse: Pulse,
        batches: int,
        measured: Measured,
    ) -> None:
        self._sites = sites
        self._stream = stream
        self._scoring = scoring
        self._rules = rules
        self._steps = steps
        self._pulse = pulse
        self._batches = batches
        self._measured = measured
        self._answers = steps.answers
        self._intact = True  # nothing dropped yet: the pruned model still is the dense one

    def run(self, budget: float) -> list[Step]:
        """Prune every site so that all prunable units that stay cost at most `budget`; returns one step per site.

        Sites are pruned in their model, which is full-size afterwards and zero where units were dropped.
        """
        steps = []
        for index, site in enumerate(self._sites):
            step = self._steps.load(index)
            if step is None:
                step = self._decide(index, budget)
                self._steps.save(index, step)
            else:
                self._replay(index)
            self._pass(site, step)
            if site.units and not self._rules.even:
                budget -= cost_of(site.units, step.kept)
            steps.append(step)
        return steps

    def _decide(self, index: int, budget: float) -> Step:
        """Choose and refit; the dense model moves past the site."""
        site = self._sites[index]
        kept, pull = torch.ones(site.sublayer.units, dtype=torch.bool), None
        if site.units:
            kept, pull = self._choose(index, budget)
        whole = bool(kept.all())
        self._pulse.begin(f"refitting {site.name}", _refitting(site))
        if whole and (self._intact or isinstance(site.sublayer, FeedForward)):
            # As the released code has it: an FFN that keeps all is left alone, an attention is refitted, to repair
            # what went wrong below. While nothing went wrong there is nothing to repair.
            self._stream.lift_teacher(site.sublayer)
            return Step(kept, site.sublayer.output.clone(), {})
        return self._refit(site, kept, pull)

    def _choose(self, index: int, budget: float) -> tuple[Tensor, list[Tensor] | None]:
        """The units of a site that stay, (units,) bool, and the pull (rows, tokens) on it in every batch if known."""
        site = self._sites[index]
        chosen = self._steps.chosen.get(site.name)
        if chosen is not None:
            self._pulse.skip(self._batches * _measuring(self._sites[index:]))
            return chosen, None
        self._pulse.begin(f"measuring {site.name}", _measuring(self._sites[index:]))
        found = (
            self._measured(f"dense-{index:03}", lambda: self._measure(index))
            if self._intact
            else self._measure(index)
        )
        if self._answers is None:
            self._answers = self._steps.answers = [found[f"{_ANSWER}{at}"] for at in range(self._batches)]
        choice = self._within(self._sites[index:], found, budget)
        if self._rules.once:
            self._steps.chosen = choice
        pull = [found[f"{_PULL}{at}"] for at in range(self._batches) if f"{_PULL}{at}" in found]
        return choice[site.name], pull or None

    def _measure(self, index: int) -> dict[str, Tensor]:
        """The knowledge of a site and of all above it, by name, and the model's answers to each batch."""
        sites, predictive = self._sites[index:], self._scoring.predictive
        seen = self._stream.measure(
            [site.sublayer for site in sites], predictive.signal(self._answers), predictive.gradients
        )
        found = {
            site.name: known.columns(self._scoring.rows)
            for site, known in zip(sites, seen.knowledge, strict=True)
        }
        answers = {f"{_ANSWER}{at}": logits for at, logits in enumerate(seen.logits)}
        return found | answers | {f"{_PULL}{at}": pull for at, pull in enumerate(seen.pull)}

    def _within(
        self, sites: Sequence[Site], knowledge: Mapping[str, Tensor], budget: float
    ) -> dict[str, Tensor]:
        """The best units of all these sites, (units,) bool by name."""
        groups = {site.name: site.units for site in sites if site.units}
        scores = {site.name: self._scoring.score(site, knowledge[site.name]) for site in sites if site.units}
        if self._rules.even:
            counts = self._even_counts(budget)
            return {name: keep_top(score, counts[name]) for name, score in scores.items()}
        rungs = [to_rungs(scores[name], group) for name, group in groups.items()]
        kept = search(rungs, [group.price for group in groups.values()], budget)
        return {
            name: from_rungs(scores[name], mask, group)
            for (name, group), mask in zip(groups.items(), kept, strict=True)
        }

    def _even_counts(self, budget: float) -> dict[str, int]:
        """How many units every site keeps when layers keep one number of them, by name."""
        groups: dict[str, SlotUnits] = {site.name: site.units for site in self._sites if site.units}
        sizes = {name: group.count // group.step for name, group in groups.items()}
        prices = {name: group.price for name, group in groups.items()}
        rungs = keep_counts(sizes, prices, budget, even=True)
        return {name: rungs[name] * group.step for name, group in groups.items()}

    def _refit(self, site: Site, kept: Tensor, pull: Sequence[Tensor] | None) -> Step:
        pruned = site.sublayer.keep(kept.to(site.reader.weight.device))
        if not self._rules.refit:
            self._stream.lift_teacher(site.sublayer)
            return Step(kept, pruned.output.clone(), {})
        equations = self._stream.equations(site.sublayer, pruned, pull=None if self._rules.released else pull)
        if not kept.any():
            # The released code drops such a sub-layer, bias and all; the mean of what it should say costs nothing.
            mean = pruned.output.bias + equations.mean.float()
            bias = torch.zeros_like(mean) if self._rules.released else mean
            return Step(kept, replace(pruned.output, bias=bias), {})
        solve = equations.solve_plainly if self._rules.released else equations.solve
        fit = solve(pruned.output.weight)
        notes = {"ridge": fit.ridge, "error_before": fit.error_before, "error_after": fit.error_after}
        return Step(kept, replace(pruned.output, weight=fit.weight), notes)

    def _replay(self, index: int) -> None:
        """Move the dense model past a site that was finished before the job was interrupted."""
        self._pulse.skip(self._batches * _measuring(self._sites[index:]))
        self._pulse.begin(f"returning to {self._sites[index].name}", _refitting(self._sites[index]))
        self._stream.lift_teacher(self._sites[index].sublayer)

    def _pass(self, site: Site, step: Step) -> None:
        """Bake the step into the model and move the pruned model past the site."""
        self._intact = self._intact and bool(step.kept.all())
        self._pulse.begin(f"passing {site.name}", _lifting(site))
        self._stream.lift_student(site.after(step))
        site.bake(step)


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
