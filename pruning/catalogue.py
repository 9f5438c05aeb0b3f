"""The methods and their settings as data, so that the API knows them without importing torch.

`python -m pruning.catalogue --write` makes `catalogue.json` from the classes in `pruning.methods`; a test
compares the two. Imports no torch, except inside `generate`.
"""

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pruning.errors import InvalidSpec
from pruning.spec import Kind, Measure

_PATH = Path(__file__).with_name("catalogue.json")


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


@cache
def methods() -> tuple[MethodInfo, ...]:
    """Every method, ordered by name."""
    return tuple(_info(**entry) for entry in json.loads(_PATH.read_text("utf-8")))


def method(name: str) -> MethodInfo:
    """The method called `name`; raises InvalidSpec that lists the known names."""
    for entry in methods():
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in methods())
    raise InvalidSpec(f"There is no method {name!r}.", param="/method", remedy=f"Use one of: {known}.")


def _info(*, granularities: list[Kind], measures: list[Measure], **rest: Any) -> MethodInfo:
    return MethodInfo(granularities=tuple(granularities), measures=tuple(measures), **rest)


def generate() -> str:
    """The text of `catalogue.json` as the method classes say it. Imports torch."""
    from pruning.methods import METHODS

    entries = [
        MethodInfo(
            name=name,
            title=cls.title,
            summary=cls.summary,
            granularities=tuple(sorted(cls.granularities)),
            measures=tuple(sorted(cls.measures)),
            needs_training=cls.needs_training,
            empties_sublayers=cls.empties_sublayers,
            schema=cls.Settings.model_json_schema(),
        )
        for name, cls in sorted(METHODS.items())
    ]
    return json.dumps([asdict(entry) for entry in entries], indent=2, ensure_ascii=False) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Check `catalogue.json` against the classes, or write it; the exit status says whether they agree."""
    parser = argparse.ArgumentParser(prog="python -m pruning.catalogue", description="Check catalogue.json.")
    parser.add_argument("--write", action="store_true", help="write the file instead of checking it")
    text = generate()
    if parser.parse_args(arguments).write:
        _PATH.write_text(text, "utf-8")
        return 0
    if _PATH.read_text("utf-8") == text:
        return 0
    sys.stderr.write("catalogue.json is stale: run python -m pruning.catalogue --write\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
