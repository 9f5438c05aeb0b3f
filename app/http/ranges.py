"""One byte range of a representation (RFC 9110 section 14)."""

import re
from dataclasses import dataclass

_SINGLE = re.compile(r"bytes=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.IGNORECASE)


@dataclass(frozen=True)
class ByteRange:
    """Bytes `start` to `end`, both included."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.end - self.start + 1


class Unsatisfiable(ValueError):
    """The range begins after the end."""


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """The range asked for, within `size` bytes; None when there is none or it is to be ignored.

    Several ranges, other units and broken syntax are ignored, as the RFC allows, so the whole is sent.
    Raises Unsatisfiable when a well-formed range covers no byte.
    """
    match = _SINGLE.fullmatch(header.strip()) if header else None
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        start, end = max(size - int(match[2]), 0), size - 1
        satisfiable = int(match[2]) > 0 and size > 0
    else:
        start = int(match[1])
        if match[2] != "" and int(match[2]) < start:
            return None
        end = min(int(match[2]), size - 1) if match[2] != "" else size - 1
        satisfiable = start < size
    if not satisfiable:
        raise Unsatisfiable(f"the representation has {size} bytes")
    return ByteRange(start, end)
