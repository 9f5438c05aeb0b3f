"""What a person sees while jobs run: bars on a terminal, plain lines everywhere else."""

import time
from typing import Any, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from client import Event, Job, PruneryClient

_SECONDS_BETWEEN_LINES = 10.0


class JobBars:
    """One bar for each job; what the jobs say of note is printed above the bars."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            TextColumn("{task.fields[phase]}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[message]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._titles: dict[str, str] = {}
        self._last_line = 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def add(self, job_id: str, title: str) -> None:
        """Show a bar for a job under a title."""
        self._titles[job_id] = title
        self._tasks[job_id] = self._bars.add_task(title, total=1.0, start=False, phase="queued", message="")

    def tell(self, job_id: str, event: Event) -> None:
        """Take in one event of a job."""
        task, data = self._tasks[job_id], event.data
        if event.type == "status":
            self._change(job_id, str(data.get("status", "")))
        elif event.type == "phase":
            self._change(job_id, str(data["phase"]))
        elif event.type == "progress":
            self._bars.update(task, completed=data["fraction"], phase=data["phase"], message=_message(data))
            self._line(job_id, f"{data['phase']} {data['fraction']:.0%} {_message(data)}")
        elif event.type in ("warning", "attempt_lost"):
            text = data.get("message") or data.get("code") or event.type
            line = f"{self._titles[job_id]}: [yellow]{escape(str(text))}[/yellow]"
            self._console.print(line, highlight=False, soft_wrap=True)

    def _change(self, job_id: str, phase: str) -> None:
        self._bars.start_task(self._tasks[job_id])
        self._bars.update(self._tasks[job_id], phase=phase, message="")
        self._last_line = 0.0
        self._line(job_id, phase)

    def _line(self, job_id: str, text: str) -> None:
        """Without a terminal: one line for each phase, and one every ten seconds within it."""
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._console.print(
                f"{self._titles[job_id]}: {text}", markup=False, highlight=False, soft_wrap=True
            )


def follow(client: PruneryClient, job_id: str, bars: JobBars) -> Job:
    """Show a job's events until it is over, and return it."""
    for event in client.watch(job_id):
        bars.tell(job_id, event)
    return client.job(job_id)


def _message(data: dict[str, Any]) -> str:
    known = ("phase", "fraction", "message")
    said = "" if data.get("message") == data["phase"] else str(data.get("message") or "")
    figures = (
        f"{name} {value:.4g}"
        for name, value in data.items()
        if name not in known and isinstance(value, float)
    )
    return " ".join(part for part in (said, *figures) if part)
