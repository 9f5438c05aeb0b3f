"""The demo's table: what each job made of the same model, read from the reports."""

import json
from pathlib import Path
from typing import Any

from rich.table import Table


def read_report(folder: Path) -> dict[str, Any]:
    """`report.json` of a downloaded result."""
    return dict(json.loads((folder / "report.json").read_text("utf-8")))


def comparison(reports: dict[str, dict[str, Any]]) -> Table:
    """One row for the dense model of each job and one for what became of it, by method."""
    table = Table(title="before and after")
    for heading in ("model", "quality", "parameters", "FLOPs per row", "file size"):
        table.add_column(heading, justify="left" if heading == "model" else "right")
    first = next(iter(reports.values()))
    for batch in first["latency"]:
        table.add_column(f"latency, batch {batch['batch_size']}", justify="right")
    for method, report in reports.items():
        table.add_row(f"{method}: dense", *_cells(report, "before", "dense_ms"))
        table.add_row(f"[bold]{method}: pruned", *_cells(report, "after", "pruned_ms"), end_section=True)
    return table


def _shown(value: float, lower_is_better: bool) -> str:
    """A part of 1 in percent; a perplexity as it is."""
    return f"{value:.2f} (lower is better)" if lower_is_better else f"{value:.2%}"


def _cells(report: dict[str, Any], side: str, milliseconds: str) -> list[str]:
    quality, size = report["quality"], report[side]
    cells = [
        f"{quality['primary']} {_shown(quality[side][quality['primary']], quality['lower_is_better'])}",
        f"{size['parameters'] / 1e6:.2f} M",
        f"{size['flops'] / 1e6:,.1f} M",
        f"{size['bytes'] / 2**20:.1f} MiB",
    ]
    for batch in report["latency"]:
        speed = f" ({batch['speedup']:.2f}x)" if milliseconds == "pruned_ms" else ""
        cells.append(f"{batch[milliseconds]:.1f} ms{speed}")
    return cells
