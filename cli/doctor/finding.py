"""What a check found."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line: `warn` works but may surprise, `fail` does not work; then `remedy` says what to do."""

    check: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    remedy: str = ""


def last_words(error: BaseException) -> str:
    """The first line of the error that lies deepest: what the database, the broker or the system itself said."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
