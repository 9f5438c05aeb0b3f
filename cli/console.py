"""Where the commands print: results to standard output, progress and remarks to standard error."""

from datetime import datetime

from rich.console import Console
from rich.table import Table

out = Console()
said = Console(stderr=True)

_WIDE = 240


def moment(at: datetime | None) -> str:
    """A moment (UTC) in a table; nothing for none."""
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else ""


def print_table(table: Table) -> None:
    """Fit a table to the terminal; in a pipe or a file, where there is none, cut nothing."""
    console = out if out.is_terminal else Console(width=_WIDE)
    console.print(table)
