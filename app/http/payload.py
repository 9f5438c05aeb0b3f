"""The base of every JSON body that a client sends."""

import math
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

MAX_DEPTH = 16


class Payload(BaseModel):
    """A JSON body: frozen, without unknown fields, and free of values that JSON or a database cannot hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, value: Any) -> Any:
        refuse_unstorable(value)
        return value


def refuse_unstorable(value: Any, depth: int = 0) -> None:
    """Raise a validation error for NaN, infinities, NUL, lone surrogates, giant integers and deep nesting."""
    reason = ""
    if depth > MAX_DEPTH:
        reason = f"nests deeper than {MAX_DEPTH} levels"
    elif isinstance(value, dict):
        for key, inner in value.items():
            refuse_unstorable(key, depth)
            refuse_unstorable(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            refuse_unstorable(inner, depth + 1)
    elif isinstance(value, str):
        reason = _text_fault(value)
    elif isinstance(value, float) and not math.isfinite(value):
        reason = "holds NaN or an infinity, which JSON does not have"
    elif isinstance(value, int) and abs(value) >= 2**63:
        reason = "holds an integer of more than 64 bits"
    if reason:
        raise PydanticCustomError("unstorable_value", "The body {reason}.", {"reason": reason})


def _text_fault(value: str) -> str:
    if "\0" in value:
        return "holds a text with a NUL character"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "holds a text with half a surrogate pair"
    return ""
