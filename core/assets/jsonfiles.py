"""Reading JSON that a stranger wrote: bounded in size and depth, standard values only."""

import json
from pathlib import Path
from typing import Any

from core.db.base import Json
from pruning.errors import InvalidModel

MAX_DEPTH = 32


def read_object(path: Path, *, max_bytes: int) -> Json:
    """The JSON object of a small file; raises InvalidModel that names the file."""
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise InvalidModel(f"{path.name} is larger than {max_bytes:,} bytes.", param=f"/files/{path.name}")
    return parse_object(content, path.name)


def parse_object(content: bytes, name: str) -> Json:
    """The JSON object that the bytes spell; raises InvalidModel that names the file it is from."""
    try:
        value = json.loads(content.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidModel(f"{name} is not valid JSON: {reason:.200}.", param=f"/files/{name}") from None
    if not isinstance(value, dict):
        raise InvalidModel(f"{name} is not a JSON object.", param=f"/files/{name}")
    _check_depth(value, name)
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
            raise InvalidModel(f"{name} is nested deeper than {MAX_DEPTH}.", param=f"/files/{name}")
        level = [inner for outer in level for inner in _inside(outer)]


def _inside(value: Any) -> list[Any]:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [child for child in children if isinstance(child, dict | list)]
