"""K-prune: structured pruning of a fine-tuned encoder without retraining (Park, Choi, Kang, ICLR 2024).

Each sub-layer, bottom to top, is measured, cut and refitted before the next one is looked at. The mathematics is in
`pruning.knowledge`.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

from pydantic import Field

from pruning.knowledge.climb import Climb, Measured, Rules, Scoring, total_work
from pruning.knowledge.draw import Batch, Draw
from pruning.knowledge.ends import Ends
from pruning.knowledge.predictive import Curvature, Mismatch, Predictive
from pruning.knowledge.pulse import Pulse
from pruning.knowledge.scores import divergence, squared_error
from pruning.knowledge.signals import Loss
from pruning.knowledge.sites import sites_of
from pruning.knowledge.steps import Step, Steps
from pruning.knowledge.stream import Stream
from pruning.knowledge.trials import Judge, Trials
from pruning.masking.masks import kept_units
from pruning.methods import Context, Method, Outcome

_PUBLISHED = (2.5e-4, 1.0)
"""The two values of lambda that the paper chooses from."""
_TRIED = 1 / 5
"""Rows to try each lambda with, as a part of those that are measured with."""
_HELD_OUT = 1 / 4
"""Rows to choose lambda by, the same way."""


class KPrune(Method):
    """Keep the heads and neurons that hold most knowledge per FLOP, and refit what reads them.

    No labels and no training: the dense model's logits say what predictive knowledge is, its hidden states say what
    representational knowledge is and what the refitted weights must restore.
    """

    name = "kprune"
    title = "K-prune"
    summary = "Removes heads and neurons without retraining: keeps what the dense model knows, refits by least squares."
    granularities = frozenset({"structured", "neuron", "head"})
    measures = frozenset({"flops", "weights", "parameters", "latency"})
    cuts_many = True
    empties_sublayers = True

    class Settings(Method.Settings):
        """Options of K-prune, with the published values as defaults."""

        mode: Literal["best", "faithful"] = Field(
            default="best",
            description="best: rows drawn once each, predictive knowledge by the true Fisher information, a refit "
            "with a ridge in which tokens count by how much the answers hang on them, and the mean of what it should "
            "say for an emptied sub-layer. faithful: as in the released code: rows drawn with repetition, squared "
            "gradients of batches of 32 rows against the dense model's answers, no ridge, all tokens alike, and an "
            "emptied sub-layer loses its bias too.",
        )
        calibration_tokens: int = Field(
            default=100_000,
            ge=1,
            le=100_000_000,
            description="Tokens of training rows to measure and refit with; fewer when the data has fewer.",
        )
        representation_weight: float | None = Field(
            default=None,
            ge=0,
            le=1e6,
            description="Weight of representational against predictive knowledge (lambda in the paper). Left out: "
            "0.00025 in faithful mode; else the better of the two published values, 0.00025 and 1, each tried with a "
            "fifth of the rows, by the answers on training rows that were not measured with.",
        )
        head_weight: float = Field(
            default=64.0,
            gt=0,
            le=1e6,
            description="Weight of a head's score against a neuron's (mu in the paper).",
        )
        temperature: float = Field(
            default=2.0, gt=0, le=100, description="Temperature of the softmax that compares logits (gamma)."
        )
        refit: bool = Field(
            default=True,
            description="Whether to solve for new weights of what reads the kept units; false is an ablation.",
        )
        selection: Literal["each", "once"] = Field(
            default="each",
            description="each: measure anew before each sub-layer is cut. once: choose all units on the dense model; "
            "an ablation.",
        )

    settings: Settings

    def prune(self, context: Context) -> Outcome:
        """Prune to the asked ratio; finished sub-layers are kept in `context.work` and not done again."""
        groups = context.groups()
        sites = sites_of(context.model, groups)
        draw, held = self._draws(context)
        weights = self._representation_weights()
        work = sum(site.sublayer.work for site in sites)
        batches = draw.batches(context.device, work)
        few = draw.part(_TRIED).batches(context.device, work) if len(weights) > 1 else []
        pulse = Pulse(context, (len(batches) + len(weights) * len(few)) * total_work(sites))
        rules = Rules(
            even=context.spec.allocation == "native",
            refit=self.settings.refit,
            released=self.settings.mode == "faithful",
            once=self.settings.selection == "once",
        )

        def climb(batches: Sequence[Batch], measured: Measured, weight: float, steps: Steps) -> list[Step]:
            with Ends.of(context.model, context.task) as ends:
                stream = Stream(ends, batches, pulse.beat, bf16=context.spec.precision == "bf16")
                scoring = self._scoring(context, sum(len(batch.rows) for batch in batches), weight)
                whole = Climb(sites, stream, scoring, rules, steps, pulse, len(batches), measured)
                return whole.run(context.budget(groups))

        judge = Judge(context, held, sites, self._loss(context), pulse.beat)
        attempt = partial(climb, few, lambda name, measure: context.measured(f"few-{name}", measure))
        trials = Trials(context.work, judge, attempt, partial(climb, batches, context.measured))
        steps, chosen = trials.best(weights)
        masks = {site.name: step.kept for site, step in zip(sites, steps, strict=True) if site.units}
        details = {
            "rows": len(draw),
            "tokens": int(draw.lengths.sum()),
            **chosen,
            "sublayers": {site.name: dict(step.notes) for site, step in zip(sites, steps, strict=True)},
        }
        return Outcome(kept=kept_units(context.shape, groups, masks), details=details)

    def _draws(self, context: Context) -> tuple[Draw, Draw]:
        """The rows to measure with, and those to choose lambda by."""
        faithful, seed = self.settings.mode == "faithful", context.spec.seed
        draw = Draw.of(context.train, self.settings.calibration_tokens, seed, replacement=faithful)
        return draw.split(_HELD_OUT, seed) if len(self._representation_weights()) > 1 else (draw, draw)

    def _representation_weights(self) -> tuple[float, ...]:
        if self.settings.representation_weight is not None:
            return (self.settings.representation_weight,)
        return _PUBLISHED[:1] if self.settings.mode == "faithful" else _PUBLISHED

    def _loss(self, context: Context) -> Loss:
        if context.task.kind == "regression":
            return squared_error
        return partial(divergence, temperature=self.settings.temperature)

    def _scoring(self, context: Context, rows: int, representation_weight: float) -> Scoring:
        predictive: Predictive = Curvature(context.task, self.settings.temperature, context.spec.seed)
        if self.settings.mode == "faithful":
            predictive = Mismatch(self._loss(context), rows)
        return Scoring(predictive, rows, representation_weight, self.settings.head_weight)
