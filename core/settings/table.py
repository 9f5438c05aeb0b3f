"""The table of every setting, docs/settings.md; made by `python -m core.settings --write`."""

import sys
from pathlib import Path

from pydantic.fields import FieldInfo

from core.settings import SECRET_FIELDS, Settings


def table() -> str:
    """The text of docs/settings.md."""
    rows = [
        f"| `PRUNERY_{name.upper()}` | {_default(field)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    files = ", ".join(f"`PRUNERY_{name.upper()}`" for name in SECRET_FIELDS)
    return "\n".join(
        (
            "# Settings",
            "",
            "Made by `python -m core.settings --write`. Every setting is an environment variable.",
            f"{files}\nmay hold a password: the same names with `_FILE` added read it from a file instead.",
            "",
            "| variable | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
        )
    )


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "derived"
    return "none" if field.default is None else f"`{field.default}`"


def main(arguments: list[str]) -> int:
    """Write docs/settings.md, or say by the exit status whether it is what it would be."""
    path = Path(__file__).parents[2] / "docs" / "settings.md"
    if "--write" in arguments:
        path.write_text(table(), "utf-8")
        return 0
    if path.is_file() and path.read_text("utf-8") == table():
        return 0
    sys.stderr.write("docs/settings.md is stale: run python -m core.settings --write\n")
    return 1
