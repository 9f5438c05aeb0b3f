"""How many steps a training run has, and whether they are enough for what its method does in them. No torch."""

import math
from typing import Any

from pruning.data.rows import DataSummary
from pruning.errors import InvalidSpec
from pruning.granularity import Granularity
from pruning.options import Training
from pruning.planning.catalogue import MethodInfo
from pruning.planning.levels import stage_steps
from pruning.spec import PruneSpec


def training_steps(training: Training, rows: int) -> int:
    """Optimizer steps of a training stage on so many rows."""
    return training.max_steps or math.ceil(training.epochs * math.ceil(rows / training.batch_size))


CHARACTERS_PER_TOKEN = 4.5
"""A guess, before anything is tokenised."""


def training_rows(spec: PruneSpec, data: DataSummary) -> int:
    """Rows that are trained on: without a validation split a part of them is held out.

    The lines of a text become windows; how many is guessed from the characters.
    """
    rows = data.splits["train"]
    if data.layout == "lines":
        rows = math.ceil(rows * data.mean_characters / CHARACTERS_PER_TOKEN / spec.max_length)
    if data.splits.get("validation"):
        return rows
    return rows - max(1, round(rows * spec.evaluate.validation_fraction))


def check_length(spec: PruneSpec, chosen: MethodInfo, data: DataSummary) -> None:
    """Raise InvalidSpec when a method that prunes while it trains has too few steps for its schedule.

    The schedule lasts from `prune_from` to `prune_until`, which end no later than `freeze_at`; where a method has
    no such settings, from the first step to `freeze_at`. Each stage of `multilevel` has a schedule of its own.
    """
    if not chosen.needs_training:
        return
    defaults = {name: field.get("default") for name, field in chosen.schema["properties"].items()}
    settings: dict[str, Any] = defaults | spec.settings
    freeze = settings.get("freeze_at", 1.0)
    start, end = settings.get("prune_from", 0.0), settings.get("prune_until", freeze)
    if start >= end:
        problem = f"prune_until = {end} must be above prune_from = {start}."
        raise InvalidSpec(f"Method {chosen.name}: {problem}", param="/method/prune_until")
    if end > freeze:
        problem = f"freeze_at = {freeze} must not be below prune_until = {end}."
        raise InvalidSpec(f"Method {chosen.name}: {problem}", param="/method/freeze_at")
    training = Training(**{name: settings[name] for name in Training.model_fields if name in settings})
    steps = training_steps(training, training_rows(spec, data))
    least = shortest_run(start, end, chosen.schedule_steps)
    if Granularity.parse(spec.granularity).kind == "multilevel":
        least = shortest_stages(least, settings.get("structured_steps"))
    if steps < least:
        raise InvalidSpec(
            f"{steps} optimizer steps are too short a run for the schedule of method {chosen.name}.",
            param="/method/max_steps",
            remedy=f"It needs at least {least} steps: raise max_steps or epochs, or lower batch_size.",
        )


def shortest_stages(least: int, part: float | None) -> int:
    """The fewest steps of which both stages of `multilevel` get at least so many."""
    steps = 2 * least
    while min(stage_steps(steps, part)) < least:
        steps += 1
    return steps


def shortest_run(start: float, end: float, needed: int) -> int:
    """The fewest steps of which `needed` whole ones lie between the parts `start` and `end`."""
    steps = max(needed, math.floor(needed / (end - start)))
    while math.floor(end * steps) - math.ceil(start * steps) < needed:
        steps += 1
    return steps
