"""Whether a model can teach another: what their config.json and vocabularies say. Imports no torch."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pruning.data.labels import labels_for
from pruning.data.rows import DataSummary
from pruning.errors import InvalidData, InvalidSpec, PruningError
from pruning.options import LAYERS_MATCHED, Distill
from pruning.planning.families import family_of
from pruning.planning.shape import ModelShape
from pruning.spec import PruneSpec, Task

Config = Mapping[str, Any]
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")
"""Files that hold a tokenizer's vocabulary, the best first."""

_SHOWN = 5


def check_teacher(spec: PruneSpec, config: Config, teacher: Config) -> None:
    """Raise InvalidSpec when the teacher cannot read what the model of `config` reads, or has nothing to teach.

    `spec` is the request, settled or as it came.
    """
    if spec.distill is False or not spec.prunes:
        raise _refusal(
            "Nothing is distilled in this job, so it needs no teacher.",
            "Leave teacher out, or prune with distill and a method or recovery that trains.",
        )
    shape, other = ModelShape.from_config(config), _shape(teacher)
    _check_equal("model_type", config, teacher)
    _check_equal("vocab_size", config, teacher)
    _check_reach(spec, config, teacher)
    if isinstance(spec.distill, Distill):
        _check_features(spec.distill, shape, other)


def check_teacher_labels(
    task: Task, data: DataSummary, config: Config, teacher: Config, names: Sequence[str] | None = None
) -> None:
    """Raise InvalidSpec unless the teacher's trained head gives the same outputs, in the same order.

    `names` are those of the dataset's integers, as for `labels_for`.
    """
    wanted = labels_for(task, data, config, names)
    try:
        found = labels_for(task, data, teacher, names)
    except (InvalidData, InvalidSpec) as error:
        raise _refusal(f"The labels do not fit the teacher: {error.message}", error.remedy) from error
    order = ", ".join(f"{index}: {name}" for index, name in list(enumerate(wanted.names))[:_SHOWN])
    remedy = f"Use one that was trained for this task, with the labels {order}." if order else ""
    if not found.trained:
        raise _refusal(
            "The teacher has no trained head for the task and the labels of this dataset.",
            remedy or "Use one that was trained for this task.",
        )
    if (found.ids, len(found.names)) != (wanted.ids, len(wanted.names)):
        raise _refusal("The teacher has other labels, or has them in another order.", remedy)


def check_vocabulary(own: Mapping[str, int], teacher: Mapping[str, int]) -> None:
    """Raise InvalidSpec unless two vocabularies, each the id of every token, are the same."""
    if own == teacher:
        return
    different = sorted(token for token in own.keys() | teacher.keys() if own.get(token) != teacher.get(token))
    shown = ", ".join(map(repr, different[:_SHOWN]))
    raise _refusal(
        f"The teacher's tokenizer has another vocabulary: {len(different)} tokens differ, such as {shown}.",
        "Use a teacher with the model's own tokenizer.",
    )


def vocabulary(name: str, content: bytes) -> dict[str, int] | None:
    """The id of every token in one of the files VOCABULARIES; None where it has none that is understood."""
    if name == "vocab.txt":
        return {token: index for index, token in enumerate(content.decode("utf-8", "replace").splitlines())}
    stored = json.loads(content)
    if name == "vocab.json":
        return stored if isinstance(stored, dict) else None
    pieces = stored.get("model", {}).get("vocab")
    if isinstance(pieces, list):  # Unigram: pairs of piece and score
        pieces = {piece: index for index, (piece, *_) in enumerate(pieces)}
    if not isinstance(pieces, dict):
        return None
    return pieces | {token["content"]: token["id"] for token in stored.get("added_tokens") or ()}


def _shape(teacher: Config) -> ModelShape:
    try:
        return ModelShape.from_config(teacher)
    except PruningError as error:
        raise _refusal(
            f"The teacher cannot be used: {error.message}", error.remedy or "Use one that is whole."
        ) from error


def _check_equal(name: str, config: Config, teacher: Config) -> None:
    if config.get(name) != teacher.get(name):
        raise _refusal(
            f"The teacher has {name} {teacher.get(name)!r}, the model {config.get(name)!r}.",
            "Use a teacher of the same family with the same tokenizer.",
        )


def _check_reach(spec: PruneSpec, config: Config, teacher: Config) -> None:
    """Every position and every segment that the model reads must be in the teacher's tables."""
    family = family_of(teacher)
    positions = teacher.get(family.positions_config)
    usable = None if positions is None else positions - family.reserved_positions
    if usable is not None and spec.max_length > usable:
        raise _refusal(
            f"The teacher cannot read {spec.max_length} tokens.", f"Use a max_length of at most {usable}."
        )
    if min(2, config.get("type_vocab_size") or 0) > (teacher.get("type_vocab_size") or 0):
        raise _refusal(
            "The model tells two segments apart, the teacher does not.", "Use a teacher with segments."
        )


def _check_features(distill: Distill, shape: ModelShape, teacher: ModelShape) -> None:
    """What is compared inside the models must have a counterpart."""
    if distill.attention and shape.heads != teacher.heads:
        raise _refusal(
            f"Attention is compared head by head: the teacher has {teacher.heads} in a layer, the model {shape.heads}.",
            "Set distill.attention to 0, or use a teacher with as many heads.",
        )
    shallow, deep = sorted((shape.layers, teacher.layers))
    if (distill.attention or (distill.hidden and distill.layers == "equal")) and deep % shallow:
        ways = "distill.attention to 0" if distill.attention else 'distill.layers to "nearest"'
        raise _refusal(
            f"Layers are matched by index, every k-th of the deeper model: the teacher has {teacher.layers}, "
            f"the model {shape.layers}, and {deep} is no multiple of {shallow}.",
            f"Set {ways}, or use a teacher of another depth.",
        )
    matched = min(LAYERS_MATCHED, teacher.layers)
    if distill.layers == "nearest_in_order" and shape.layers < matched:
        raise _refusal(
            f"{matched} layers of the teacher need a layer each, in order, and the model has {shape.layers}.",
            'Set distill.layers to "nearest", which may take one twice.',
        )


def _refusal(message: str, remedy: str) -> InvalidSpec:
    return InvalidSpec(message, param="/teacher", remedy=remedy)
