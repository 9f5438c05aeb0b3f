"""How many FLOPs a job's passes over its rows take. Imports no torch."""

from pruning.data.rows import DataSummary
from pruning.forecast.schemas import Work
from pruning.options import Distill, Training
from pruning.planning.catalogue import MethodInfo
from pruning.planning.costs import total_cost
from pruning.planning.length import training_rows, training_steps
from pruning.planning.plan import Plan

_BACKWARD = 2
"""A backward pass takes twice what the forward pass does: gradients of the inputs, and of the weights."""

_JUDGED = 3
"""Evaluations of a job that recovers: of the dense model, of the pruned one, of the result; else one less."""


def work(plan: Plan, data: DataSummary, method: MethodInfo | None) -> Work:
    """The passes of a plan's job; `method` is None when nothing is pruned.

    Passes of methods that look at calibration rows are among those that are not counted.
    """
    row = _forward(plan, plan.length)
    timed = _forward(plan, plan.spec.evaluate.sequence_length)
    trained = sum(steps * rows * (1 + _BACKWARD) * row for steps, rows, _ in stages(plan, data, method))
    taught = sum(steps * rows * row for steps, rows, teacher in stages(plan, data, method) if teacher)
    recovers = plan.spec.recover is not False
    judged = (_JUDGED if recovers else _JUDGED - 1) + (plan.spec.quality_candidates or 0)
    passes = 2 * plan.spec.evaluate.rounds * sum(plan.spec.evaluate.batch_sizes)
    return Work(
        training=trained + taught,
        evaluation=judged * _held_out(plan, data) * row,
        timing=passes * timed if plan.spec.prunes and plan.spec.evaluate.latency else 0.0,
        complete=method is None or method.needs_training or method.name in ("magnitude", "random"),
    )


def stages(plan: Plan, data: DataSummary, method: MethodInfo | None) -> list[tuple[int, int, bool]]:
    """Optimizer steps, rows of one, and whether a teacher is asked too, of every stage that trains."""
    rows, spec = training_rows(plan.spec, data), plan.spec
    taught = isinstance(spec.distill, Distill)
    found = [(spec.finetune, False), (method_training(plan, method), taught), (spec.recover, taught)]
    return [
        (training_steps(training, rows), training.batch_size, teacher)
        for training, teacher in found
        if isinstance(training, Training)
    ]


def method_training(plan: Plan, method: MethodInfo | None) -> Training | None:
    """The training of a method that prunes while it trains."""
    if method is None or not method.needs_training:
        return None
    defaults = {name: field.get("default") for name, field in method.schema["properties"].items()}
    settings = defaults | plan.spec.settings
    return Training(**{name: settings[name] for name in Training.model_fields if name in settings})


def _forward(plan: Plan, length: float) -> float:
    """FLOPs of one row of the dense model: a method that prunes while it trains only masks what it drops."""
    return total_cost(plan.shape, "flops", length)


def _held_out(plan: Plan, data: DataSummary) -> float:
    """Rows that quality is measured on."""
    held_out = data.splits.get("validation")
    if held_out is None:
        held_out = max(1, round(data.splits["train"] * plan.spec.evaluate.validation_fraction))
    return min(held_out, plan.spec.evaluate.max_rows or held_out)
