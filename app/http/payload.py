"""The base of every JSON body that a client sends."""

import math
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

MAX_DEPTH = 16
_EXACT = 2**53
"""Beyond it not every integer is a double."""


class Payload(BaseModel):
    """A JSON body: frozen, without unknown fields, and free of values that JSON or a database cannot hold.

    "5" is no number and "yes" is not true.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        return storable(value)


def storable(value: Any, depth: int = 0) -> Any:
    """A value with whole numbers as integers, since 5.0 is 5 in JSON.

    Raises a validation error for NaN, infinities, NUL, lone surrogates, giant integers and deep nesting.
    """
    if reason := _fault(value, depth):
        raise PydanticCustomError("unstorable_value", "The body {reason}.", {"reason": reason})
    if isinstance(value, dict):
        return {storable(key, depth): storable(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list):
        return [storable(inner, depth + 1) for inner in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    return value


def _fault(value: Any, depth: int) -> str:
    if depth > MAX_DEPTH:
        return f"nests deeper than {MAX_DEPTH} levels"
    if isinstance(value, str):
        return _text_fault(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "holds NaN or an infinity, which JSON does not have"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "holds an integer of more than 64 bits"
    return ""


def _text_fault(value: str) -> str:
    if "\0" in value:
        return "holds a text with a NUL character"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "holds a text with half a surrogate pair"
    return ""
