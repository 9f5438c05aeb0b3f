"""What methods share that prune layer by layer, by what each linear reads on calibration rows: the run."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from pruning.knowledge.draw import Draw
from pruning.knowledge.pulse import Pulse
from pruning.layerwise.finished import Finished
from pruning.layerwise.memory import Meter, Need
from pruning.layerwise.obs import Compressed
from pruning.layerwise.owl import kept_fractions, outliers
from pruning.layerwise.patterns import Pattern
from pruning.layerwise.scores import wanda
from pruning.layerwise.shares import pattern, unit_counts
from pruning.layerwise.sites import Site, sites
from pruning.layerwise.statistics import Gram, InputSquares, Statistic
from pruning.layerwise.stream import HALVES, Stream
from pruning.masking.weight_units import WeightUnits
from pruning.methods import Context, Method, Outcome

Solver = Callable[[Tensor, Pattern], Compressed]
"""Prunes a weight (outputs, inputs) to a pattern."""


class LayerwiseSettings(Method.Settings):
    """What is looked at, and how the ratio is shared among the layers."""

    calibration_tokens: int = Field(
        default=131_072,
        ge=1,
        le=100_000_000,
        description="Tokens of training rows to look at, drawn by the seed; fewer when the data has fewer. "
        "Published runs have 128 rows of 2,048.",
    )
    true_sequential: bool = Field(
        default=False,
        description="Whether the linears of a layer are pruned one after the other, each by what it reads when "
        "those before it are pruned. Takes about twice the time.",
    )
    layer_ratios: Literal["uniform", "owl"] = Field(
        default="uniform",
        description="uniform: every matrix keeps the same fraction. owl: layers with more outliers keep more "
        "(OWL), which helps at high ratios.",
    )
    outlier_times: float = Field(
        default=5.0,
        gt=1,
        le=1000,
        description="How many times the layer's mean score an outlier of owl is above (M).",
    )
    outlier_spread: float = Field(
        default=0.08,
        gt=0,
        lt=0.5,
        description="Half of the distance between the fractions that the layers of owl keep (lambda).",
    )


class SecondOrderSettings(LayerwiseSettings):
    """What methods also let one set that invert the Gram matrix of a linear's inputs."""

    dampening: float = Field(
        default=0.01,
        gt=0,
        le=1,
        description="Part of the mean diagonal of the inputs' Gram matrix that is added to it. SparseGPT raises it "
        "tenfold where the matrix cannot be factorised; the report has the value used.",
    )


class LayerwiseMethod(Method):
    """A method that prunes the linears of a layer by what they read, then goes on with what that layer now says.

    Only the statistics of one layer exist at a time. The rows' hidden states are kept on the host.
    """

    measures = frozenset({"weights", "parameters"})
    cuts_many = True
    settings: LayerwiseSettings
    by_rows = False
    """Whether single weights compete with those of their row, not of the whole matrix."""

    @abstractmethod
    def solver(self, statistic: Statistic, beat: Callable[[], None]) -> Solver:
        """How linears are pruned that read what `statistic` sums up; `beat` may raise to stop."""

    @abstractmethod
    def workspace(self, outputs: int, inputs: int) -> int:
        """Bytes that the solver needs for one matrix beside the statistic."""

    def statistic(self, inputs: int, device: torch.device) -> Statistic:
        """An empty statistic of the kind that the solver needs."""
        return Gram(inputs, device)

    def prune(self, context: Context) -> Outcome:
        """Prune to the asked ratio; finished layers are kept in `context.work` and not done again.

        Raises OutOfMemory before anything is computed when the rows' hidden states or a matrix will not fit.
        """
        return _Run(self, context).prune()


class _Run:
    """One method on one model."""

    def __init__(self, method: LayerwiseMethod, context: Context) -> None:
        self._method = method
        self._settings = method.settings
        self._context = context
        found = context.groups()
        self._groups = {name: group for name, group in found.items() if isinstance(group, WeightUnits)}
        self._sites = sites(context.model, self._groups)
        self._draw = Draw.of(context.train, self._settings.calibration_tokens, context.spec.seed)
        work = max(
            sum(group.linear.weight.numel() for site in layer for group in site.groups.values())
            for layer in self._sites
        )
        self._batches = self._draw.batches(context.device, work)
        owl = self._settings.layer_ratios == "owl"
        stages = max(map(len, self._sites)) if self._settings.true_sequential else 1
        passes = 2 + stages + (2 if owl else 0)
        self._pulse = Pulse(context, len(self._sites) * len(self._batches) * passes)
        self._finished = Finished(context.work)

    def prune(self) -> Outcome:
        context = self._context
        need = self._need()
        need.check(context.device)
        meter = Meter(context.device, context.model)

        def tick() -> None:
            meter.look()
            self._pulse.beat()

        with Stream.of(context.model, self._batches, tick, half=HALVES.get(context.spec.precision)) as stream:
            fractions = self._fractions(stream)
            budget = context.budget(self._groups)
            counts = unit_counts(self._sites, context.granularity, budget, fractions)
            for index in range(len(self._sites)):
                self._layer(stream, index, counts)
                self._pulse.begin(f"passing layer {index}", 1.0)
                stream.advance(index)
        meter.look()
        return context.outcome(
            self._groups,
            self._finished.masks,
            rows=len(self._draw),
            tokens=int(self._draw.lengths.sum()),
            memory=dict(meter.report(need)),
            linears=self._finished.notes,
            **({} if fractions is None else {"layer_fractions": fractions}),
        )

    def _need(self) -> Need:
        """Memory, by sizes alone."""
        method = self._method
        statistics = max(
            sum(method.statistic(site.inputs, torch.device("meta")).bytes for site in layer)
            for layer in self._sites
        )
        workspace = max(method.workspace(*group.linear.weight.shape) for group in self._groups.values())
        masks = sum(group.linear.weight.numel() for group in self._groups.values())
        return Need.of(self._context.shape, self._batches, statistics, workspace, masks=masks)

    def _fractions(self, stream: Stream) -> list[float] | None:
        """What each layer keeps of its groups' weights; None where all keep the same."""
        if self._settings.layer_ratios == "uniform":
            return None
        found = self._finished.fractions()
        if found is None:
            prunable = sum(group.count * group.cost for group in self._groups.values())
            ratio = 1 - self._context.budget(self._groups) / prunable
            outliers = self._context.measured("outliers", lambda: self._outliers(stream))["layers"].tolist()
            found = kept_fractions(outliers, ratio, self._settings.outlier_spread)
            self._finished.save_fractions(found)
        return found

    def _outliers(self, stream: Stream) -> dict[str, Tensor]:
        """The outliers of the `layers` of the dense model, float64 (layers,)."""
        found = []
        for index, layer in enumerate(self._sites):
            self._pulse.begin(f"looking for outliers in layer {index}", 1.0)
            squares = {site.reader: InputSquares(site.inputs, self._context.device) for site in layer}
            stream.collect(index, squares)
            scores = [
                wanda(group.linear.weight.detach(), squares[site.reader].squares)
                for site in layer
                for group in site.groups.values()
            ]
            found.append(outliers(scores, self._settings.outlier_times))
            stream.advance(index)
        stream.rewind()
        return {"layers": torch.tensor(found, dtype=torch.float64)}

    def _layer(self, stream: Stream, index: int, counts: Mapping[str, int]) -> None:
        """Prune one layer, or put back what an earlier attempt made of it."""
        layer = self._sites[index]
        if self._finished.restore(index, layer):
            self._pulse.skip(2 * len(self._batches))
            return
        stages = [[site] for site in layer] if self._settings.true_sequential else [layer]
        for stage in stages:
            self._pulse.begin(f"reading layer {index}", 1.0)
            found = {site.reader: self._method.statistic(site.inputs, self._context.device) for site in stage}
            stream.collect(index, found)
            for site in stage:
                self._site(site, found.pop(site.reader), counts, len(self._batches) / len(layer))
        self._finished.save(index, layer)

    def _site(self, site: Site, statistic: Statistic, counts: Mapping[str, int], work: float) -> None:
        """Prune the linears of a site, in the model."""
        self._pulse.begin(f"pruning {', '.join(site.groups)}", 0.0)
        solve = self._method.solver(statistic, self._pulse.beat)
        for name, group in site.groups.items():
            self._pulse.beat()
            dense = group.linear.weight.detach().clone()
            asked = pattern(group, counts[name], self._context.granularity, by_rows=self._method.by_rows)
            found = solve(dense, asked)
            self._finished.add(name, group, found, _error(dense, found.weight, statistic))
        self._pulse.skip(work)


def _error(dense: Tensor, pruned: Tensor, statistic: Statistic) -> dict[str, float]:
    """The squared change of the outputs as a part of their square, where the statistic knows it."""
    if not isinstance(statistic, Gram):
        return {}
    gram, change = statistic.matrix(), pruned - dense
    energy = float((dense @ gram * dense).sum())
    return {"error": float((change @ gram * change).sum()) / energy if energy else 0.0}
