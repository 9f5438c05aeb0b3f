"""Depth pruning: whole layers go, by how little they do, and the rest is an ordinary model with fewer of them.

By block influence (Men et al. 2024, "ShortGPT") or greedily by the loss without each (Song et al. 2024, "SLEB"; as
2SSP deletes attentions, Sandri et al. 2025).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from pruning.knowledge.draw import Batch, Draw
from pruning.knowledge.pulse import Pulse
from pruning.knowledge.steps import load_tensors, save_tensors
from pruning.layerwise.influence import block_influence
from pruning.layerwise.memory import Meter, Need
from pruning.methods import Context, Method, Outcome
from pruning.model.depth import drop_layers, without_layers
from pruning.planning.costs import Kept
from pruning.planning.even import SLACK

_TOKENS = {"influence": 131_072, "greedy": 4096}


class Depth(Method):
    """Drop the layers that the model misses least. The first layer stays: it alone reads embeddings."""

    name = "depth"
    title = "Depth pruning"
    summary = "Removes whole layers without training: those that change hidden states, or the loss, least."
    granularities = frozenset({"layer"})
    measures = frozenset({"weights", "flops"})
    cuts_many = True

    class Settings(Method.Settings):
        """Options of depth pruning."""

        criterion: Literal["influence", "greedy"] = Field(
            default="influence",
            description="influence: layers go by 1 - the cosine of what they read and say, measured once on the dense "
            "model (ShortGPT). greedy: one after the other, that without which the loss is lowest (SLEB); needs "
            "labels where the task has them, and a forward pass for every layer that is left, each time.",
        )
        calibration_tokens: int | None = Field(
            default=None,
            ge=1,
            le=100_000_000,
            description="Tokens of training rows to look at, drawn by the seed; fewer when the data has fewer. Left "
            "out: 131,072 for influence, 4,096 for greedy.",
        )

    settings: Settings

    def prune(self, context: Context) -> Outcome:
        """Drop as many layers as the asked ratio needs, rounded up; what was measured is kept in `context.work`.

        Raises OutOfMemory before anything is computed when a batch will not fit.
        """
        criterion, shape = self.settings.criterion, context.shape
        tokens = self.settings.calibration_tokens or _TOKENS[criterion]
        draw = Draw.of(context.train, tokens, context.spec.seed)
        weights = shape.layers * sum(outputs * inputs for outputs, inputs in shape.matrices)
        batches = draw.batches(context.device, weights)
        need = self._need(context, batches)
        need.check(context.device)
        meter = Meter(context.device, context.model)
        keep = math.floor((1 - context.ratio) * shape.layers * (1 + SLACK))
        run = _Run(context, batches, meter)
        training = context.model.training
        context.model.eval()
        if criterion == "influence":
            dropped, notes = run.by_influence(shape.layers - keep)
        else:
            dropped, notes = run.greedily(shape.layers - keep)
        context.model.train(training)
        kept = Kept.whole_layers(shape, [index for index in range(shape.layers) if index not in dropped])
        drop_layers(context.model, kept.stack)
        meter.look()
        told = {"rows": len(draw), "tokens": int(draw.lengths.sum()), "memory": dict(meter.report(need))}
        return Outcome(kept, details={**told, "criterion": criterion, "dropped": dropped, **notes})

    def _need(self, context: Context, batches: Sequence[Batch]) -> Need:
        """Memory, by sizes alone: of greedy the logits of a batch and their loss with them."""
        config, answers = context.model.config, 0
        if self.settings.criterion == "greedy" and context.task.kind == "causal-lm":
            answers = 3 * 4 * config.vocab_size * max(batch.real.numel() for batch in batches)
        return Need.of(context.shape, batches, answers, 0, copies=0, lighter="a smaller max_length")


class _Run:
    """What is measured of one model, and kept in a file each."""

    def __init__(self, context: Context, batches: Sequence[Batch], meter: Meter) -> None:
        self._context = context
        self._batches = batches
        self._meter = meter
        self._pulse = Pulse(context, 1)

    def by_influence(self, count: int) -> tuple[list[int], dict[str, list[float]]]:
        """The `count` layers to drop, in that order, and the influence of every layer."""
        self._pulse = Pulse(self._context, len(self._batches))
        self._pulse.begin("measuring block influence", 1.0)
        path = self._path("influence")
        if not path.exists():
            found = block_influence(self._context.model, self._batches, self._tick)
            save_tensors(path, {}, {str(index): each for index, each in enumerate(found)})
        _, notes = load_tensors(path)
        influence = [notes[str(index)] for index in range(len(notes))]
        order = sorted(range(1, len(influence)), key=influence.__getitem__)
        return order[:count], {"influence": influence}

    def greedily(self, count: int) -> tuple[list[int], dict[str, list[float]]]:
        """The `count` layers to drop, in that order, and the loss without them and those before."""
        layers = self._context.shape.layers
        forwards = sum(layers - 1 - done for done in range(count))
        self._pulse = Pulse(self._context, len(self._batches) * forwards)
        dropped: list[int] = []
        losses: list[float] = []
        for number in range(count):
            path = self._path(f"dropped-{number:03}")
            left = [index for index in range(layers) if index not in dropped]
            if path.exists():
                self._pulse.skip(len(self._batches) * (len(left) - 1))
            else:
                tried = {each: self._loss([index for index in left if index != each]) for each in left[1:]}
                best = min(tried, key=tried.__getitem__)
                save_tensors(path, {}, {"layer": best, "loss": tried[best]})
            _, notes = load_tensors(path)
            dropped.append(int(notes["layer"]))
            losses.append(notes["loss"])
        return dropped, {"losses": losses}

    def _loss(self, kept: Sequence[int]) -> float:
        """The mean loss of the answers when only these layers compute."""
        self._pulse.begin(f"trying {len(kept)} layers", 1.0)
        task, model = self._context.task, self._context.model
        total, answers = 0.0, 0
        with torch.no_grad(), without_layers(model, kept):
            for batch in self._batches:
                logits = task.logits(model(**batch.inputs), batch.whole)
                if len(logits):
                    total += len(logits) * float(task.loss(logits, batch.whole["labels"]))
                answers += len(logits)
                self._tick()
        return total / max(1, answers)

    def _tick(self) -> None:
        self._meter.look()
        self._pulse.beat()

    def _path(self, name: str) -> Path:
        self._context.work.mkdir(parents=True, exist_ok=True)
        return self._context.work / f"{name}.safetensors"
