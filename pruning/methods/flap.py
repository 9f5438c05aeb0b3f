"""FLAP: heads and neurons that fluctuate least go, and what they said on average stays (An et al., AAAI 2024).

"Fluctuation-based Adaptive Structured Pruning for Large Language Models". In place of the published compensation, a
bias, what reads the kept units may be refitted by least squares, as K-prune does (Park, Choi, Kang, ICLR 2024).
"""

from collections.abc import Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pruning.knowledge.draw import Draw
from pruning.knowledge.pulse import Pulse
from pruning.knowledge.steps import Steps
from pruning.layerwise.fluctuation import Metric, fluctuation, unit_scores
from pruning.layerwise.memory import Meter, Need
from pruning.layerwise.refit import COPIES, PASSES, Refit, statistics, workspace
from pruning.layerwise.slots import slots
from pruning.layerwise.statistics import Moments
from pruning.layerwise.stream import HALVES, Stream
from pruning.masking.rungs import keep_units
from pruning.masking.select import Scope
from pruning.methods import Context, Method, Outcome
from pruning.model.biases import add_biases

_MEANS = "mean/"
"""Prefix of the mean inputs of readers, beside the masks that were chosen."""


class Flap(Method):
    """Rank heads and neurons by how much what they say varies over tokens, standardised in every sub-layer.

    What hardly varies can be said by a constant, or by what stays. Every layer keeps a head and a neuron.
    """

    name = "flap"
    title = "FLAP"
    summary = (
        "Removes heads and neurons that fluctuate least, without training; refits what reads those that stay."
    )
    granularities = frozenset({"structured", "neuron", "head"})
    measures = frozenset({"flops", "weights", "parameters", "latency"})
    cuts_many = True

    class Settings(Method.Settings):
        """Options of FLAP."""

        calibration_tokens: int = Field(
            default=131_072,
            ge=1,
            le=100_000_000,
            description="Tokens of training rows to look at, drawn by the seed; fewer when the data has fewer. "
            "Published runs have 1,024 rows of 128.",
        )
        compensation: Literal["refit", "bias", "none"] = Field(
            default="refit",
            description="What makes up for dropped units. refit: new weights of what reads the kept ones, by least "
            "squares against the dense model's hidden states (K-prune). bias: their mean, as published; only where "
            "config.json can say that there are biases (all encoders, GPT-2, OPT, Llama; heads of Qwen3 and Gemma). "
            "none: an ablation.",
        )
        ridge: float = Field(
            default=1e-2,
            ge=1e-9,
            le=1,
            description="What pulls refitted weights towards the old ones, as a part of the mean diagonal of the "
            "Gram matrix. Raised tenfold where the equations cannot be solved; the report has the value used.",
        )
        metric: Metric = Field(
            default="wifv",
            description="wifv: variance of what a unit writes, times the squared norm of the weights that read it. "
            "ifv: the variance alone. wifn: norm of what it writes, times the mean size of those weights.",
        )
        scope: Scope = Field(
            default="global",
            description="global: all units compete. local: the heads, and the neurons, of every layer keep the same "
            "fraction. With allocation native all layers keep the same number anyway.",
        )

    settings: Settings

    def prune(self, context: Context) -> Outcome:
        """Prune to the asked ratio; what was chosen and refitted is kept in `context.work` and not done again.

        Raises OutOfMemory before anything is computed when hidden states or normal equations will not fit.
        """
        return _Run(self.settings, context).prune()


class _Run:
    """FLAP on one model."""

    def __init__(self, settings: Flap.Settings, context: Context) -> None:
        self._settings = settings
        self._context = context
        self._groups = context.groups()
        self._layers = slots(context.model, self._groups)
        self._units = {slot.name: slot for layer in self._layers for slot in layer if slot.units is not None}
        self._draw = Draw.of(context.train, settings.calibration_tokens, context.spec.seed)
        shape = context.shape
        work = sum(outputs * inputs for outputs, inputs in shape.matrices)
        self._batches = self._draw.batches(context.device, work)
        refits = settings.compensation == "refit"
        passes = 1 + (PASSES if refits else 0)
        self._pulse = Pulse(context, len(self._layers) * len(self._batches) * passes)
        self._steps = Steps(context.work)

    def prune(self) -> Outcome:
        context = self._context
        need = self._need()
        need.check(context.device)
        meter = Meter(context.device, context.model)

        def tick() -> None:
            meter.look()
            self._pulse.beat()

        half = HALVES.get(context.spec.precision)
        with Stream.of(context.model, self._batches, tick, half=half) as stream:
            masks, means = self._chosen(stream)
            notes = {}
            if self._settings.compensation == "refit":
                stream.rewind()
                pruned = Stream(context.model, self._batches, tick, half)
                refit = Refit(self._layers, stream, pruned, self._steps, self._pulse, self._settings.ridge)
                notes = refit.run(masks)
        if self._settings.compensation == "bias":
            self._add_means(masks, means)
        for name, slot in self._units.items():
            self._groups[name].clear(masks[name].to(slot.reader.weight.device))
        meter.look()
        details = {
            "rows": len(self._draw),
            "tokens": int(self._draw.lengths.sum()),
            "memory": dict(meter.report(need)),
            **({"sublayers": notes} if notes else {}),
        }
        return context.outcome(self._groups, masks, **details)

    def _need(self) -> Need:
        """Memory, by sizes alone."""
        shape = self._context.shape
        readers = [(shape.width, shape.hidden), (shape.ffn, shape.hidden)]
        moments = sum(Moments(inputs, torch.device("meta")).bytes for inputs, _ in readers)
        if self._settings.compensation != "refit":
            return Need.of(shape, self._batches, moments, 0, lighter="fewer calibration_tokens")
        equations = max(statistics(*reader) for reader in readers)
        solving = max(workspace(*reader) for reader in readers)
        lighter = "compensation bias or none"
        return Need.of(shape, self._batches, equations, solving, copies=COPIES, lighter=lighter)

    def _chosen(self, stream: Stream) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The masks (units,) and the mean of what each reader reads (inputs,), by group; by the dense model."""
        if not self._steps.chosen:
            moments: dict[str, Moments] = {}
            for index in range(len(self._layers)):
                moments |= self._read(stream, index)
            masks = self._masks(moments)
            means = {_MEANS + name: each.mean.float() for name, each in moments.items()}
            self._steps.chosen = {**masks, **means}
        else:
            self._pulse.skip(len(self._layers) * len(self._batches))
        found = self._steps.chosen
        return (
            {name: found[name] for name in self._units},
            {name: found[_MEANS + name] for name in self._units},
        )

    def _read(self, stream: Stream, index: int) -> dict[str, Moments]:
        """What the readers of a layer read, by group; moves the rows past it."""
        layer = [slot for slot in self._layers[index] if slot.units is not None]
        self._pulse.begin(f"measuring layer {index}", 1.0)
        found: dict[nn.Module, Moments] = {
            slot.reader: Moments(slot.reader.in_features, self._context.device) for slot in layer
        }

        def see(_: int, module: nn.Module, inputs: Tensor) -> None:
            found[module].add(inputs)

        stream.advance(index, list(found), see)
        return {slot.name: found[slot.reader] for slot in layer}

    def _masks(self, moments: Mapping[str, Moments]) -> dict[str, Tensor]:
        scores = {}
        for name, slot in self._units.items():
            assert slot.units is not None  # noqa: S101 - only such slots have units
            each = fluctuation(slot.reader.weight.detach(), moments[name], self._settings.metric)
            scores[name] = unit_scores(each, slot.units.size)
        groups = {name: self._groups[name] for name in self._units}
        even = self._context.spec.allocation == "native"
        budget = self._context.budget(groups)
        return keep_units(groups, scores, budget, self._settings.scope, even=even)

    def _add_means(self, masks: Mapping[str, Tensor], means: Mapping[str, Tensor]) -> None:
        """Let the biases of readers say what the dropped units said on average."""
        add_biases(self._context.model, [slot.reader for slot in self._units.values()])
        with torch.no_grad():
            for name, slot in self._units.items():
                device = slot.reader.weight.device
                dropped = ~slot.columns(masks[name].to(device))
                slot.reader.bias.add_(slot.reader.weight[:, dropped] @ means[name].to(device)[dropped])
