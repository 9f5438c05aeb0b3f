"""Where in a request something is wrong, as a JSON pointer (RFC 6901)."""

from collections.abc import Mapping, Sequence
from typing import Any

from app.http.problem import FieldError

_MISSING = ("missing", "target_missing")
"""Errors about a field that was not sent."""


def field_error(error: Mapping[str, Any], body: Any) -> FieldError:
    """One of pydantic's errors as ours; `body` is the JSON that was sent."""
    place, *steps = error["loc"] or ("body",)
    if place == "body":
        pointer = pointer_into(body, steps, missing=error["type"] in _MISSING)
    else:
        pointer = f"{place}:{'.'.join(str(step) for step in steps)}"
    return FieldError(pointer=pointer, code=error["type"], message=_message(error))


def pointer_into(body: Any, steps: Sequence[str | int], *, missing: bool = False) -> str:
    """The pointer to `steps`, leaving out the names that pydantic adds for the branches of a union.

    With `missing` the last step names a field that the body lacks, and is kept.
    """
    tokens: list[str] = []
    here = body
    for index, step in enumerate(steps):
        if isinstance(here, dict) and step in here:
            here = here[str(step)]
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
        elif not (missing and index == len(steps) - 1):
            continue
        tokens.append(str(step).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{token}" for token in tokens)


def _message(error: Mapping[str, Any]) -> str:
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        return "This field is not known; remove it or correct its name."
    if error["type"] == "missing":
        return "This field is required."
    return message
