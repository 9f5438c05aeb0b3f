"""From a request to a plan: settle what was left open, refuse what cannot be done, predict.

Imports no torch: the API plans every request before it is queued.
"""

import math
from collections.abc import Mapping
from typing import Any

from pruning.data.labels import labels_for
from pruning.data.rows import DataSummary
from pruning.errors import InvalidSpec, TargetUnreachable
from pruning.planning.catalogue import MethodInfo
from pruning.planning.costs import largest_ratio, total_cost
from pruning.planning.devices import check_devices
from pruning.planning.even import check_even
from pruning.planning.families import family_of
from pruning.planning.family import Family
from pruning.planning.length import CHARACTERS_PER_TOKEN, check_length
from pruning.planning.settle import choose, settle, settle_dense
from pruning.planning.shape import ModelShape
from pruning.planning.teacher import check_teacher, check_teacher_labels
from pruning.planning.windows import doc_stride
from pruning.report import Notice, ResultKind
from pruning.spec import Granularity, Measure, Model, PruneSpec, Task


class Plan(Model):
    """What will be done. `spec` is the request with nothing left open: `finetune`, `recover` and `distill`
    are settings or False, its `method` is a name of the catalogue or "none".

    `length` is the mean number of tokens of a row, guessed from the characters when `length_estimated`.
    `cost_before` and `cost_after` count the layers of the model in the target measure: weights, or FLOPs of
    one row; when zeros are filled, `cost_after` is what is left before. `largest_ratio` is the most that this
    method can remove here.
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
    cost_before: float
    cost_after: float
    largest_ratio: float
    warnings: tuple[Notice, ...]


def resolve(
    spec: PruneSpec,
    config: Mapping[str, Any],
    data: DataSummary,
    length: float | None = None,
    teacher: Mapping[str, Any] | None = None,
) -> Plan:
    """Plan a request for the model of a config.json and a summarised dataset.

    `length` is the mean number of tokens of a row when it is known, `teacher` the config.json of a teacher other
    than the dense model. Raises InvalidSpec, InvalidModel,
    InvalidData or TargetUnreachable, each naming the field at fault and the remedy. Planning a plan's own
    `spec` gives the same plan.
    """
    family, shape = family_of(config), ModelShape.from_config(config)
    _check_positions(spec, config)
    task = spec.task or _infer_task(spec, config, data, family)
    _check_task(task, family, config)
    trained = labels_for(task, data, config, spec.label_names).trained
    chosen = choose(spec, trained, family) if spec.target_ratio else None
    settled = settle_dense(spec) if chosen is None else settle(spec, chosen, family, shape, trained)
    if chosen is not None:
        check_length(settled, chosen, data)
    check_devices(settled, chosen)
    if teacher is not None:
        check_teacher(settled, config, teacher)
        check_teacher_labels(task, data, config, teacher, spec.label_names)
    settled = settled.model_copy(update={"task": task, "doc_stride": doc_stride(spec, task)})
    measure = settled.target_measure or "weights"
    mean = length or _guess_length(spec, data)
    known = [mean] if length else _lengths(spec, shape)
    reach = _reach(settled, chosen, shape, known)
    dense = total_cost(shape, measure, mean)
    return Plan(
        spec=settled,
        task=task,
        method=settled.method,
        kind=_kind(settled),
        target_measure=measure,
        trained_head=trained,
        shape=shape,
        length=mean,
        length_estimated=length is None,
        cost_before=dense,
        cost_after=dense * (1 - settled.target_ratio),
        largest_ratio=reach,
        warnings=_warnings(settled, data),
    )


def _check_positions(spec: PruneSpec, config: Mapping[str, Any]) -> None:
    family = family_of(config)
    positions = config.get(family.positions_config)
    if not isinstance(positions, int):
        return
    usable = positions - family.reserved_positions
    for length, param in (
        (spec.max_length, "/max_length"),
        (spec.evaluate.sequence_length if spec.evaluate.latency else 0, "/evaluate/sequence_length"),
    ):
        if length > usable:
            raise InvalidSpec(
                f"{length} tokens are more than the model can read.",
                param=param,
                remedy=f"Use at most {usable}.",
            )


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


def _lengths(spec: PruneSpec, shape: ModelShape) -> list[float]:
    """The lengths where the reach can be largest or smallest: it is monotone between them."""
    longest = float(spec.max_length)
    return [1.0, min(max(1.0, shape.turning_length), longest), longest]


def _reach(spec: PruneSpec, chosen: MethodInfo | None, shape: ModelShape, lengths: list[float]) -> float:
    """The largest ratio that holds at every one of the lengths; refuses a target that none of them allows."""
    if chosen is None:
        return 0.0
    ratios = [
        largest_ratio(
            shape,
            Granularity.parse(spec.granularity),
            spec.target_measure or "weights",
            length,
            allocation=spec.allocation,
            empties_sublayers=chosen.empties_sublayers,
        )
        for length in lengths
    ]
    nearest = max(0.0, math.floor(min(ratios) * 1e4) / 1e4)
    if spec.target_ratio > max(ratios):
        raise TargetUnreachable(
            f"target_ratio {spec.target_ratio} of {spec.target_measure} is out of reach for this model: "
            f"{chosen.name} with {spec.granularity} and allocation {spec.allocation} can remove {nearest}.",
            nearest=nearest,
            remedy=f"The nearest reachable target_ratio is {nearest}.",
        )
    if spec.allocation == "native" and shape.free_heads:
        for length in lengths:
            check_even(spec, shape, length)
    return nearest


def _kind(spec: PruneSpec) -> ResultKind:
    if not spec.target_ratio:
        return "dense"
    granularity = Granularity.parse(spec.granularity)
    if granularity.removable or spec.fills:
        return "shrunk"
    return "mixed" if granularity.mixed else "zeros"


def _warnings(spec: PruneSpec, data: DataSummary) -> tuple[Notice, ...]:
    found = []
    if _kind(spec) == "zeros":
        text = f"{spec.granularity} leaves zeros in matrices of the same size: nothing gets faster by itself."
        found.append(Notice(code="zeros_only", message=text))
    if _kind(spec) == "mixed":
        where = "the attention" if spec.granularity.startswith("hybrid") else "what is left"
        text = f"{spec.granularity} leaves zeros in {where}: only what is removed makes it faster."
        found.append(Notice(code="zeros_left", message=text))
    if spec.fills:
        text = (
            f"fill makes weights of all zeros in what is left: the result has less than {spec.target_ratio} of its "
            "weights removed."
        )
        found.append(Notice(code="filled", message=text))
    if _kind(spec) in ("shrunk", "mixed") and spec.allocation == "global":
        text = "Layers may differ in size: a plain load is exact, full speed needs trust_remote_code=True."
        if spec.granularity == "structured":
            text += " With allocation native a plain load is small and fast."
        found.append(Notice(code="remote_code", message=text))
    if not data.splits.get("validation"):
        text = "The dataset has no validation split: a part of the training rows is held out."
        found.append(Notice(code="no_validation", message=text))
    return tuple(found)
