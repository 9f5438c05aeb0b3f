"""Pruning in two stages: whole heads and neurons first, then blocks of all that is left (LEAP, released code)."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from transformers import PreTrainedModel

from pruning.masking.hybrid import restore_masks, units_left
from pruning.masking.slot_units import SlotUnits
from pruning.masking.units import Units
from pruning.methods import Context, Outcome
from pruning.methods._learned import LearnedMethod
from pruning.model.layers import prunable_linears
from pruning.model.shrink import restore, shrink
from pruning.planning.costs import Kept, removed_ratio
from pruning.planning.levels import unit_multiple
from pruning.steps.checkpoint import Steps, key_of
from pruning.training.tasks import load_model

_FIRST = "structured"
_MODEL = "model"


def prune_levels(context: Context, first: LearnedMethod, second: LearnedMethod, ratio: float) -> Outcome:
    """Let `first` remove `ratio` of the weights as heads and neurons, and `second` drop blocks of what is left.

    Together they drop exactly what `context` asks. The second stage starts from the model that the first one left,
    shrunk, and distills from a frozen copy of it, where the request distills. The result of the first stage is kept
    in `context.work`, so that a run that goes on does not repeat it. The settings of both say their `max_steps`.
    """
    steps = [method.settings.max_steps or 1 for method in (first, second)]
    start, end = context.span
    middle = start + (end - start) * steps[0] / sum(steps)
    settings = [method.settings.model_dump(mode="json") for method in (first, second)]
    key = key_of(context.spec.model_dump(mode="json"), *settings, ratio, len(context.train))
    results = Steps(context.work, key)
    if not results.done(_FIRST):
        _remove_units(replace(context, span=(start, middle)), first, ratio, results)
    done = results.load(_FIRST)
    kept, folder = Kept.model_validate(done["kept"]), results.path(_FIRST) / _MODEL
    student = _shrunk_model(context, folder, kept)
    teacher = _shrunk_model(context, folder, kept) if context.spec.distill else None
    outcome = second.run(_blocks(replace(context, span=(middle, end)), student), teacher)
    restore(context.model, student, kept)
    masks = restore_masks(context.model, outcome.weight_masks or {}, kept)
    removed = removed_ratio(context.shape, kept, "weights", context.mean_length)
    details = outcome.details | {"steps": sum(steps), _FIRST: done["details"] | {"removed": removed}}
    return Outcome(units_left(context.model, masks, kept), masks, details)


def multiples(groups: Mapping[str, Units], block: tuple[int, int]) -> dict[str, int]:
    """Of every group the number whose multiples divide into blocks."""
    return {
        name: unit_multiple(block, min(writer.size for writer in group.writers))
        for name, group in groups.items()
        if isinstance(group, SlotUnits)
    }


def _remove_units(context: Context, method: LearnedMethod, ratio: float, results: Steps) -> None:
    """Run the first stage; save the model, its dropped units zero, and what it kept."""
    spec = context.spec.model_copy(update={"target_ratio": ratio})
    context = replace(context, spec=spec, work=context.work / f"{_FIRST}.work")
    teacher = None if context.teacher_dir is None else load_model(context.teacher_dir, context.task)
    outcome = method.run(context, teacher)
    kept = outcome.kept and outcome.kept.model_dump(mode="json")
    result = {"kept": kept, "details": outcome.details}
    if context.group.rank == 0:
        results.save(_FIRST, result, lambda folder: context.model.save_pretrained(folder / _MODEL))
        shutil.rmtree(context.work, ignore_errors=True)
    context.group.total(torch.zeros((), device=context.device))  # the others wait until it is saved


def _shrunk_model(context: Context, folder: Path, kept: Kept) -> PreTrainedModel:
    model = load_model(folder, context.task)
    shrink(model, kept)
    return model.to(context.device)


@dataclass(frozen=True)
class _Shrunk(Context):
    """The context of a model that has lost units: ratios count what is left of it."""

    @property
    def total_cost(self) -> float:
        """The weights of the shrunk model's layers."""
        return float(sum(linear.weight.numel() for linear in prunable_linears(self.model).values()))


def _blocks(context: Context, student: PreTrainedModel) -> Context:
    """The context of the second stage: blocks of the student, down to what `context` may keep of the dense model."""
    rows, columns = context.granularity.shape or (1, 1)
    stage = _Shrunk(**vars(context) | {"model": student, "work": context.work / "blocks.work"})
    left = context.total_cost * (1 - context.ratio) / stage.total_cost
    asked = {"granularity": f"block:{rows}x{columns}", "target_ratio": 1 - left}
    return replace(stage, spec=context.spec.model_copy(update=asked))
