"""How much memory the first process of a job will need at most, as near as its sizes say. Imports no torch."""

from pruning.data.rows import DataSummary
from pruning.forecast.schemas import Memory, Sizes
from pruning.forecast.work import method_training
from pruning.granularity import Granularity
from pruning.options import Distill, Training
from pruning.planning.catalogue import MethodInfo
from pruning.planning.length import training_rows
from pruning.planning.plan import Plan
from pruning.planning.shape import ModelShape

FACTOR = 2.0
"""The estimate is meant to be at most so many times too large or too small."""

_LIBRARIES = 480 * 2**20
"""Resident memory of a process that has loaded torch and transformers and pruned a model of a few kilobytes."""

_FLOAT = 4
_COPIES = 3
"""The dense model, the shrunk one and what is written of it, while they are compared and exported."""
_OPTIMISED = 4
"""Weights, gradients and the two means of AdamW; the same of scores that are learned."""
_LOGITS = 3
"""The answers of a language model, their logarithms, and the gradients."""
_EVALUATED_TOKENS = 4096


def memory(plan: Plan, data: DataSummary, dense: Sizes, method: MethodInfo | None, vocabulary: int) -> Memory:
    """The peak of a plan's job, and the stage that has it.

    `vocabulary` is how many answers a token has: of a decoder one for every word, else 0.
    """
    weights, shape, longest = dense.bytes.most, plan.shape, plan.spec.max_length
    passing = _one_layer(shape, longest) + vocabulary
    found = {"export": _COPIES * weights + _EVALUATED_TOKENS * passing * _FLOAT}
    teacher = weights if isinstance(plan.spec.distill, Distill) else 0.0
    scores = _OPTIMISED * _FLOAT * _scores(plan, dense)
    for stage, training, beside in (
        ("finetune", plan.spec.finetune, 0.0),
        ("prune", method_training(plan, method), teacher + scores),
        ("recover", plan.spec.recover, teacher),
    ):
        if isinstance(training, Training):
            token = shape.layers * _one_layer(shape, plan.length) + _LOGITS * vocabulary
            held = training.batch_size * plan.length * token * _FLOAT
            found[stage] = _OPTIMISED * weights + beside + held
    if method is not None and not method.needs_training:
        found["prune"] = 2 * weights + _calibration(plan, data, method)
    stage = max(found, key=found.__getitem__)
    return Memory(libraries=_LIBRARIES, job=round(found[stage]), stage=stage, factor=FACTOR)


def _one_layer(shape: ModelShape, length: float) -> float:
    """Numbers that one layer keeps of a token until its gradients are there; rows have `length` tokens."""
    return 10 * shape.hidden + 2 * shape.ffn_inputs * shape.ffn + 2 * shape.heads * shape.queries * length


def _scores(plan: Plan, dense: Sizes) -> float:
    """Scores that are learned, where they are as many as to matter: one for each single weight or block."""
    granularity = Granularity.parse(plan.spec.granularity)
    rows, columns = granularity.shape or (1, 1)
    many = granularity.kind in ("unstructured", "block", "hybrid", "multilevel")
    return dense.weights.most / (rows * columns) if many else 0.0


def _calibration(plan: Plan, data: DataSummary, method: MethodInfo) -> float:
    """Bytes that a method without training needs beside two models: hidden states of rows, and what linears read."""
    shape = plan.shape
    properties = method.schema["properties"]
    asked = {name: plan.spec.settings.get(name, field.get("default")) for name, field in properties.items()}
    there = training_rows(plan.spec, data) * plan.length
    tokens = min(there, asked.get("calibration_tokens") or (asked.get("calibration_rows") or 0) * plan.length)
    if not tokens:
        return 0.0
    states = 2 * tokens * shape.hidden
    read = sum(inputs**2 for inputs in (shape.hidden, shape.width, shape.hidden, shape.ffn))
    workspace = 6 * max(outputs * inputs for outputs, inputs in shape.matrices)
    return _FLOAT * (states + read + workspace + _EVALUATED_TOKENS * _one_layer(shape, plan.length))
