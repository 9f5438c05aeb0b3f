"""Reading JSON that a stranger wrote: bounded in size, depth and room, values that any database can hold."""

import json
import math
import re
from pathlib import Path
from typing import Any

from core.db.base import Json
from pruning.errors import InvalidModel

MAX_DEPTH = 32
MAX_VALUES = 100_000
"""Values of a small file, such as config.json or the header of weights: some 10,000 tensors."""
_ESCAPES = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<bad>u0000|u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_REMEDY = "Write it again with save_pretrained."


def read_object(path: Path, *, max_bytes: int, max_values: int = MAX_VALUES) -> Json:
    """The JSON object of a file; raises InvalidModel that names the file."""
    if path.stat().st_size > max_bytes:
        raise _refused(path.name, f"is larger than {max_bytes:,} bytes")
    return parse_object(path.read_bytes(), path.name, max_values=max_values)


def parse_object(content: bytes, name: str, *, max_values: int = MAX_VALUES) -> Json:
    """The JSON object that the bytes spell; raises InvalidModel that names the file it is from."""
    # An empty list is 3 bytes in a file and 64 in memory: what may come of the text is counted first.
    if sum(content.count(mark) for mark in (b"[", b"{", b",")) > max_values:
        raise _refused(name, f"has more than {max_values:,} values")
    try:
        text = content.decode("utf-8")
        _check_escapes(text)
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise _refused(name, f"is not valid JSON: {reason:.200}") from None
    if not isinstance(value, dict):
        raise _refused(name, "is not a JSON object")
    _check_depth(value, name)
    return value


def _refused(name: str, reason: str) -> InvalidModel:
    return InvalidModel(f"{name} {reason}.", param=f"/files/{name}", remedy=_REMEDY)


def _check_escapes(text: str) -> None:
    """No database holds a NUL in a text, no file half a surrogate pair; both can only come from an escape."""
    if "\\u" not in text:
        return
    for found in _ESCAPES.finditer(text):
        if found["bad"]:
            raise ValueError(f"{found['bad']} stands for no character")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number:.40} is too large")
    return value


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not a JSON value")


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    # Parsers differ in which of two equal keys they believe, so none may be there.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return found


def _check_depth(value: Any, name: str) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _refused(name, f"is nested deeper than {MAX_DEPTH}")
        level = [inner for outer in level for inner in _inside(outer)]


def _inside(value: Any) -> list[Any]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in children if isinstance(child, dict | list)]
