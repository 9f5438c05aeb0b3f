"""The methods and their settings as data, so that the API knows them without importing torch.

`python -m pruning.publish_catalogue --write` makes `catalogue.json` from the classes; a test compares the two.
"""

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pruning.errors import InvalidSpec
from pruning.granularity import Kind
from pruning.spec import Measure

PATH = Path(__file__).with_name("catalogue.json")

GRANULARITIES = "granularities"
"""In the schema of a setting: the kinds of granularity with which alone it has a meaning."""


@dataclass(frozen=True)
class MethodInfo:
    """One method: what it can do, and the JSON schema of its settings."""

    name: str
    title: str
    summary: str
    granularities: tuple[Kind, ...]
    measures: tuple[Measure, ...]
    needs_training: bool
    empties_sublayers: bool
    schema: dict[str, Any]
    cuts_many: bool = False
    schedule_steps: int = 1
    distill: dict[str, Any] = field(default_factory=dict)
    """How it learns from its teacher where a request does not say: fields of `Distill`."""


@cache
def methods() -> tuple[MethodInfo, ...]:
    """Every method, ordered by name."""
    return tuple(_info(**entry) for entry in json.loads(PATH.read_text("utf-8")))


def method(name: str) -> MethodInfo:
    """The method called `name`; raises InvalidSpec that lists the known names."""
    for entry in methods():
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in methods())
    raise InvalidSpec(f"There is no method {name!r}.", param="/method", remedy=f"Use one of: {known}.")


def _info(*, granularities: list[Kind], measures: list[Measure], **rest: Any) -> MethodInfo:
    return MethodInfo(granularities=tuple(granularities), measures=tuple(measures), **rest)
