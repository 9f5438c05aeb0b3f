"""What a data file may hold, and the error for the line that does not. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pruning.errors import InvalidData

Row = dict[str, Any]
KEEP_PLAIN = "Keep text and label columns only."


@dataclass(frozen=True)
class Limits:
    """What one file may hold; a file beyond a limit is refused while it is read."""

    rows: int = 5_000_000
    line_bytes: int = 1_000_000
    columns: int = 256
    nesting: int = 8
    name_characters: int = 10_000
    row_group_bytes: int = 2_000_000_000
    page_bytes: int = 64_000_000
    list_values: int = 16_000_000


LIMITS = Limits()


def broken(path: Path, line: int, problem: str, remedy: str, *, param: str = "") -> InvalidData:
    """The error for one line (row, for Parquet) of a file; lines count from 1 as editors do."""
    unit = "row" if path.suffix == ".parquet" else "line"
    return InvalidData(f"{path.name}, {unit} {line}: {problem}.", remedy=remedy, param=param)
