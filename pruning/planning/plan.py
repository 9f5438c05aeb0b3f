"""From a request to a plan: settle what was left open, refuse what cannot be done, predict.

Imports no torch: the API plans every request before it is queued.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pruning.data.labels import labels_for
from pruning.data.rows import DataSummary
from pruning.errors import InvalidSpec
from pruning.granularity import Granularity
from pruning.options import Model
from pruning.planning.choose import choose
from pruning.planning.costs import neuron_step, total_cost
from pruning.planning.depth import check_depth
from pruning.planning.devices import check_devices
from pruning.planning.families import family_of
from pruning.planning.family import Family
from pruning.planning.length import CHARACTERS_PER_TOKEN, check_length
from pruning.planning.notices import notices, result_kind
from pruning.planning.parameters import bounds
from pruning.planning.reach import reach, turning_lengths
from pruning.planning.settle import settle, settle_dense
from pruning.planning.shape import ModelShape
from pruning.planning.teacher import check_teacher, check_teacher_labels
from pruning.planning.vocabulary import settle_vocabulary
from pruning.planning.windows import doc_stride
from pruning.report import Notice, ResultKind
from pruning.spec import Measure, PruneSpec, Task


class Plan(Model):
    """What will be done. `spec` is the request with nothing left open: `finetune`, `recover` and `distill`
    are settings or False, its `method` is a name of the catalogue or "none".

    `length` is the mean number of tokens of a row, guessed from the characters when `length_estimated`.
    `cost_before` and `cost_after` are the model in the target measure: weights or FLOPs (of one row) of its layers, or
    its parameters, a lower bound when `parameters_estimated`; when zeros are filled, `cost_after` is what is left
    before. `largest_ratio` is the most that this method can remove here. What only the job can know is None: costs and
    reach of a latency, reach of a vocabulary, what is left under a drop of quality. Layers keep a multiple of
    `neuron_step` neurons.
    """

    spec: PruneSpec
    task: Task
    method: str
    kind: ResultKind
    target_measure: Measure
    trained_head: bool
    shape: ModelShape
    length: float
    length_estimated: bool
    parameters_estimated: bool
    neuron_step: int
    cost_before: float | None
    cost_after: float | None
    largest_ratio: float | None
    warnings: tuple[Notice, ...]


def resolve(
    spec: PruneSpec,
    config: Mapping[str, Any],
    data: DataSummary,
    length: float | None = None,
    teacher: Mapping[str, Any] | None = None,
    parameters: int | None = None,
) -> Plan:
    """Plan a request for the model of a config.json and a summarised dataset.

    `length` is the mean number of tokens of a row when it is known, `teacher` the config.json of a teacher other
    than the dense model, `parameters` how many the model has when that is known. Raises InvalidSpec, InvalidModel,
    InvalidData or TargetUnreachable, each naming the field at fault and the remedy. Planning a plan's own
    `spec` gives the same plan.
    """
    family, shape = family_of(config), ModelShape.from_config(config)
    _check_positions(spec, config)
    check_depth(spec, config)
    task = spec.task or _infer_task(spec, config, data, family)
    _check_task(task, family, config)
    trained = labels_for(task, data, config, spec.label_names).trained
    chosen = choose(spec, trained, family) if spec.prunes and not spec.cuts_vocabulary else None
    if chosen is not None:
        settled = settle(spec, chosen, family, shape, trained)
    elif spec.cuts_vocabulary:
        settled = settle_vocabulary(spec, family, trained)
    else:
        settled = settle_dense(spec)
    if chosen is not None:
        check_length(settled, chosen, data)
    check_devices(settled, chosen)
    if teacher is not None:
        check_teacher(settled, config, teacher)
        check_teacher_labels(task, data, config, teacher, spec.label_names)
    settled = settled.model_copy(update={"task": task, "doc_stride": doc_stride(spec, task)})
    measure = settled.target_measure or "weights"
    mean = length or _guess_length(spec, data)
    known = [mean] if length else turning_lengths(spec, shape)
    shapes = [
        replace(shape, parameters=count) for count in (parameters and [parameters]) or bounds(config, shape)
    ]
    shape = shapes[0]
    most = reach(settled, chosen, shapes, known)
    dense = None if measure == "latency" else total_cost(shape, measure, mean)
    ratio = settled.target_ratio
    return Plan(
        spec=settled,
        task=task,
        method=settled.method,
        kind=result_kind(settled),
        target_measure=measure,
        trained_head=trained,
        shape=shape,
        length=mean,
        length_estimated=length is None,
        parameters_estimated=parameters is None,
        neuron_step=neuron_step(shape, Granularity.parse(spec.granularity), settled.round_to or 1),
        cost_before=dense,
        cost_after=None if dense is None or ratio is None else dense * (1 - ratio),
        largest_ratio=most,
        warnings=notices(settled, data),
    )


def _check_positions(spec: PruneSpec, config: Mapping[str, Any]) -> None:
    family = family_of(config)
    positions = config.get(family.positions_config)
    if not isinstance(positions, int):
        return
    usable = positions - family.reserved_positions
    for length, param in (
        (spec.max_length, "/max_length"),
        (spec.evaluate.sequence_length if _times_rows(spec) else 0, "/evaluate/sequence_length"),
        (spec.latency_length or 0, "/latency_length"),
    ):
        if length > usable:
            raise InvalidSpec(
                f"{length} tokens are more than the model can read.",
                param=param,
                remedy=f"Use at most {usable}.",
            )


def _times_rows(spec: PruneSpec) -> bool:
    """Whether rows as long as `evaluate` says are timed, for the report or for the target."""
    return spec.evaluate.latency or (spec.target_measure == "latency" and spec.latency_length is None)


def _check_task(task: Task, family: Family, config: Mapping[str, Any]) -> None:
    if task in family.architectures:
        return
    name = config["model_type"]
    if family.decoder:
        raise InvalidSpec(
            f"{name} is a decoder, which is pruned for causal-lm and not for {task}.",
            param="/task",
            remedy="Send a dataset of text alone, or an encoder.",
        )
    raise InvalidSpec(
        f"{name} is an encoder, which cannot do {task}.",
        param="/task",
        remedy="Send a dataset with labels, tags or answers (name their columns if need be), or a decoder.",
    )


def _infer_task(spec: PruneSpec, config: Mapping[str, Any], data: DataSummary, family: Family) -> Task:
    """Rows with tags or answers say it; of labels, real numbers are a regression.

    So are whole numbers for a model that already gives one number. Text without labels is for decoders.
    """
    if data.layout == "tokens":
        return "token-classification"
    if data.layout == "questions":
        return "question-answering"
    if data.layout == "lines" and family.decoder:
        return "causal-lm"
    if data.classes is None:
        return "regression"
    if data.numeric_label and not spec.label_names and labels_for("regression", data, config).trained:
        return "regression"
    return "sequence-classification"


def _guess_length(spec: PruneSpec, data: DataSummary) -> float:
    if data.layout == "lines":
        return float(spec.max_length)
    return min(max(1.0, data.mean_characters / CHARACTERS_PER_TOKEN), float(spec.max_length))
