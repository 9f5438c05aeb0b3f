"""From the words of a command line to the fields of a request."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from client import Dataset, Model
from client.bodies import Reference

_HUB_NAME = re.compile(
    r"(?P<hub>\w[\w.-]*(/[\w.-]+)?)(:(?P<config>[\w.-]+))?(@(?P<revision>[\w./-]+))?", re.ASCII
)


def model_reference(text: str, upload: Callable[[Path], Model], option: str = "--model") -> Reference:
    """A model by id, by the job that made it, by hub name (`org/name@revision`), or a folder to upload."""
    if text and Path(text).is_dir():
        return upload(Path(text)).id
    if text.startswith("mdl_"):
        return text
    if text.startswith("job_"):
        return {"job": text}
    if (match := _HUB_NAME.fullmatch(text)) and match["config"] is None:
        return _given(match)
    raise typer.BadParameter(
        f"{text!r} is no folder here, no id (mdl_... or job_...) and no hub name (org/name@revision)",
        param_hint=option,
    )


def dataset_reference(text: str, upload: Callable[[Path], Dataset]) -> Reference:
    """A dataset by its id, by hub name (`org/name:config@revision`), or a local file or folder to upload."""
    if text and Path(text).exists():
        return upload(Path(text)).id
    if text.startswith("dst_"):
        return text
    if match := _HUB_NAME.fullmatch(text):
        return _given(match)
    raise typer.BadParameter(
        f"{text!r} is no file or folder here, no id (dst_...) and no hub name (org/name:config@revision)",
        param_hint="--dataset",
    )


def merge(fields: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """`fields` with assignments such as `finetune.epochs=2` or `metadata.team=search` put in.

    A value is JSON where it reads as JSON, else text. Raises BadParameter for an assignment without a name or
    `=`, or one that goes below a plain value.
    """
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        *parents, last = path.split(".")
        if not equals or not all((*parents, last)):
            raise typer.BadParameter(
                f"{assignment!r} is not NAME=VALUE, such as finetune.epochs=2", param_hint="--set"
            )
        inner = fields
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise typer.BadParameter(
                    f"{parent!r} in {path!r} is already a plain value", param_hint="--set"
                )
        inner[last] = _value(value)
    return fields


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _given(match: re.Match[str]) -> Mapping[str, str]:
    return {name: value for name, value in match.groupdict().items() if value is not None}
