"""Where the commands print: results to standard output, progress and remarks to standard error."""

from rich.console import Console
from rich.table import Table

out = Console()
said = Console(stderr=True)

_WIDE = 200


def print_table(table: Table) -> None:
    """Fit a table to the terminal; in a pipe or a file, where there is none, cut nothing."""
    console = out if out.is_terminal else Console(width=_WIDE)
    console.print(table)
