"""K-prune: structured pruning of a fine-tuned encoder without retraining (Park, Choi, Kang, ICLR 2024).

Each sub-layer, bottom to top, is measured, cut and refitted before the next one is looked at. The mathematics is in
`pruning.knowledge`.
"""

from collections.abc import Mapping
from functools import partial

import torch
from pydantic import Field
from transformers import PreTrainedModel

from pruning.knowledge.climb import Climb, Scoring, Site, total_work
from pruning.knowledge.draw import Draw
from pruning.knowledge.pulse import Pulse
from pruning.knowledge.scores import divergence, squared_error
from pruning.knowledge.steps import Steps
from pruning.knowledge.stream import Ends, Stream
from pruning.knowledge.sublayers import sublayers
from pruning.masking.masks import kept_units
from pruning.masking.units import SlotUnits
from pruning.methods import Context, Method, Outcome
from pruning.model.layers import layers

_GRADIENT_BATCH = 32
"""Rows whose mean loss has one gradient. Part of the scale of predictive knowledge, so of what the representation
weight means; a constant, because rows are computed in groups of like length whatever this is."""


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

        calibration_tokens: int = Field(
            default=100_000,
            ge=1,
            le=100_000_000,
            description="Tokens of training rows to measure and refit with; fewer when the data has fewer.",
        )
        representation_weight: float = Field(
            default=2.5e-4,
            ge=0,
            le=1e6,
            description="Weight of representational against predictive knowledge (lambda in the paper, 0.00025 or 1).",
        )
        head_weight: float | None = Field(
            default=None,
            gt=0,
            le=1e6,
            description="Weight of a head's score against a neuron's (mu in the paper, 64). Left out: the width of "
            "one head, which makes it the sum over the head's columns; that is 64 for BERT-base.",
        )
        temperature: float = Field(
            default=2.0, gt=0, le=100, description="Temperature of the softmax that compares logits (gamma)."
        )

    settings: Settings

    def prune(self, context: Context) -> Outcome:
        """Prune to the asked ratio; finished sub-layers are kept in `context.work` and not done again."""
        groups = {name: group for name, group in context.groups().items() if isinstance(group, SlotUnits)}
        sites = _sites(context.model, groups)
        draw = Draw.of(context.train, self.settings.calibration_tokens, context.spec.seed)
        batches = draw.batches(context.device, sum(site.sublayer.work for site in sites))
        pulse = Pulse(context, len(batches) * total_work(sites))
        with Ends.of(context.model, context.task) as ends:
            batch_of_row = torch.arange(len(draw)) // _GRADIENT_BATCH
            bf16 = context.spec.precision == "bf16"
            stream = Stream(ends, batches, batch_of_row, pulse.beat, bf16=bf16)
            climb = Climb(sites, stream, self._scoring(context), Steps(context.work), pulse, len(batches))
            steps = climb.run(context.budget(groups), even=context.spec.allocation == "native")
        masks = {site.name: step.kept for site, step in zip(sites, steps, strict=True) if site.units}
        details = {
            "rows": len(draw),
            "tokens": int(draw.lengths.sum()),
            "sublayers": {site.name: dict(step.notes) for site, step in zip(sites, steps, strict=True)},
        }
        return Outcome(kept=kept_units(context.shape, groups, masks), details=details)

    def _scoring(self, context: Context) -> Scoring:
        loss = squared_error
        if context.task.kind != "regression":
            loss = partial(divergence, temperature=self.settings.temperature)
        head_weight = self.settings.head_weight or float(context.shape.head_size)
        return Scoring(loss, self.settings.representation_weight, head_weight)


def _sites(model: PreTrainedModel, groups: Mapping[str, SlotUnits]) -> list[Site]:
    """Every sub-layer, bottom to top; those without units in `groups` keep all they have."""
    sites = []
    for layer in layers(model):
        attention, ffn = sublayers(layer)
        heads, neurons = f"{layer.index}.heads", f"{layer.index}.neurons"
        sites.append(Site(heads, attention, layer.attention_out, groups.get(heads)))
        sites.append(Site(neurons, ffn, layer.ffn_out, groups.get(neurons)))
    return sites
