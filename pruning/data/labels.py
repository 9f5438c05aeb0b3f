"""Which output of a model stands for which label of a dataset. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pruning.data.columns import Layout
from pruning.data.rows import DataSummary
from pruning.errors import InvalidData, InvalidSpec
from pruning.planning.families import AUTO_CLASSES
from pruning.spec import Task

_LAYOUTS: Mapping[Task, Layout] = {
    "token-classification": "tokens",
    "question-answering": "questions",
    "causal-lm": "lines",
}
_COLUMNS: Mapping[Layout, str] = {
    "text": "text and label",
    "tokens": "tokens and tags",
    "questions": "context, question and answers",
    "lines": "text alone",
}


@dataclass(frozen=True)
class Labels:
    """The outputs of a task head: `names` by output index, and `ids`, the index by the dataset's class name.

    A regression has no names, nor have answers to questions and the tokens of a vocabulary. `trained` says that the
    model's own head already has these outputs.
    """

    names: tuple[str, ...]
    ids: Mapping[str, int]
    trained: bool


def labels_for(
    task: Task, data: DataSummary, config: Mapping[str, Any], names: Sequence[str] | None = None
) -> Labels:
    """Match the dataset's labels to the model's trained head, or lay out a new head.

    A trained head is used when it holds every class of the dataset, by name or by integer. `config` is the
    content of config.json, `names` are those of the dataset's integers. Raises InvalidData when dataset and task do
    not fit, and InvalidSpec when `names` do not.
    """
    _check_layout(task, data)
    if names is not None:
        _check_names(task, data, names)
        return _named(task, data, config, tuple(names))
    return _labels(task, data, config)


def _named(task: Task, data: DataSummary, config: Mapping[str, Any], names: tuple[str, ...]) -> Labels:
    """The labels of a dataset of integers with names; a trained head without names of its own takes them."""
    by_number = _labels(task, data, config)
    if by_number.trained and by_number.names == tuple(f"LABEL_{index}" for index in range(len(names))):
        return replace(by_number, names=names)
    found = _labels(task, data.model_copy(update={"classes": names, "numeric_label": False}), config)
    return replace(found, ids={str(index): found.ids[name] for index, name in enumerate(names)})


def _labels(task: Task, data: DataSummary, config: Mapping[str, Any]) -> Labels:
    suffix = AUTO_CLASSES[task].removeprefix("AutoModel")
    suffixes = (suffix, "LMHeadModel") if task == "causal-lm" else (suffix,)
    trained = any(str(name).endswith(suffixes) for name in config.get("architectures") or ())
    names = _head_names(config) if trained else ()
    if task in ("question-answering", "causal-lm"):
        return Labels((), {}, trained=trained)
    if task == "regression":
        if not data.numeric_label:
            raise InvalidData(
                "A regression needs numbers as labels.",
                param="/task",
                remedy="Use task sequence-classification or another label column.",
            )
        return Labels((), {}, trained=trained and len(names) == 1)
    if data.classes is None:
        raise InvalidData(
            "The labels are real numbers, not classes.",
            param="/task",
            remedy="Use task regression or another label column.",
        )
    ids = _match(names, data) if len(names) > 1 else None
    if ids is not None:
        return Labels(names, ids, trained=True)
    return Labels(data.classes, {name: index for index, name in enumerate(data.classes)}, trained=False)


def _check_layout(task: Task, data: DataSummary) -> None:
    wanted = _LAYOUTS.get(task, "text")
    if data.layout == wanted:
        return
    if data.layout == "lines" and wanted == "text":
        raise InvalidData(
            "The dataset has no label column.",
            param="/columns/label",
            remedy=f"Its columns are {', '.join(sorted(data.columns))}; name one in columns.label or rename it.",
        )
    fitting = next((name for name in _LAYOUTS if _LAYOUTS[name] == data.layout), "sequence-classification")
    raise InvalidData(
        f"Task {task} needs rows of {_COLUMNS[wanted]}; this dataset was read as {_COLUMNS[data.layout]}.",
        param="/task",
        remedy=f"Use task {fitting}, or name other columns.",
    )


def _check_names(task: Task, data: DataSummary, names: Sequence[str]) -> None:
    problem = remedy = ""
    if task in ("regression", "question-answering", "causal-lm"):
        problem, remedy = f"label_names has no meaning for {task}.", "Leave it out."
    elif data.classes is None or not data.numeric_label:
        problem, remedy = "label_names is for labels that are whole numbers.", "Leave it out."
    elif len(names) < 2 or len({name.casefold() for name in names}) < len(names):
        problem, remedy = "label_names must be at least two different names.", "Name every label once."
    elif strange := [name for name in data.classes if not 0 <= int(name) < len(names)]:
        problem = f"label_names has {len(names)} names, and the dataset has the label {strange[0]}."
        remedy = "Give a name to every label, from 0 on."
    if problem:
        raise InvalidSpec(problem, param="/label_names", remedy=remedy)


def _head_names(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of a head's outputs; transformers leaves out `id2label` when a head has its default two."""
    by_id = {str(key): str(name) for key, name in (config.get("id2label") or {}).items()}
    count = len(by_id) or int(config.get("num_labels") or 2)
    return tuple(by_id.get(str(index), f"LABEL_{index}") for index in range(count))


def _match(names: tuple[str, ...], data: DataSummary) -> dict[str, int] | None:
    classes = data.classes or ()
    by_name = {name.casefold(): index for index, name in enumerate(names)}
    if all(name.casefold() in by_name for name in classes):
        return {name: by_name[name.casefold()] for name in classes}
    if data.numeric_label and all(0 <= int(name) < len(names) for name in classes):
        return {name: int(name) for name in classes}
    return None
