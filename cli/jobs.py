"""The commands about jobs that are there, and about what a service has: methods, workers."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.connection import connect
from cli.console import out, print_table, said
from cli.progress import JobBars, follow
from cli.transfers import download as bring
from client import Job, PruneryClient

JobId = Annotated[str, typer.Argument(help="The job's id, job_...")]


def watch(job_id: JobId) -> None:
    """Show a job's progress until it is over; the exit status is 0 when it succeeded."""
    with connect() as client:
        watch_job(client, client.job(job_id))


def log(
    job_id: JobId,
    attempt: Annotated[int | None, typer.Option(min=1, help="Which attempt; default: the latest.")] = None,
    max_bytes: Annotated[
        int, typer.Option("--bytes", min=1, max=2**20, help="Most bytes from the end.")
    ] = 65_536,
) -> None:
    """Show the last lines that a job's processes wrote."""
    with connect() as client:
        end = client.log(job_id, attempt=attempt, max_bytes=max_bytes)
    out.print(end.text, end="", markup=False, highlight=False, soft_wrap=True)


def list_jobs(
    status: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs of this model.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
) -> None:
    """List jobs, newest first."""
    table = Table("id", "status", "phase", "done", "method", "granularity", "ratio", "created")
    with connect() as client:
        for _, job in zip(range(limit), client.jobs(status=status, model=model), strict=False):
            table.add_row(
                job.id,
                job.status,
                job.phase or "",
                f"{job.progress or 0:.0%}",
                job.method,
                job.granularity,
                target_text(job),
                f"{job.created_at:%Y-%m-%d %H:%M:%S}",
            )
    print_table(table)


def pause(job_id: JobId) -> None:
    """Let a job rest; a running one saves a checkpoint first."""
    with connect() as client:
        out.print(client.pause(job_id).status, highlight=False)


def resume(job_id: JobId) -> None:
    """Let a paused job go on from its last checkpoint."""
    with connect() as client:
        out.print(client.resume(job_id).status, highlight=False)


def cancel(job_id: JobId) -> None:
    """Cancel a job; a running one stops within seconds."""
    with connect() as client:
        out.print(client.cancel(job_id).status, highlight=False)


def download(
    job_id: JobId,
    folder: Annotated[Path | None, typer.Argument(help="Where to; default: named like the job.")] = None,
    archive: Annotated[
        bool, typer.Option("--archive", help="Only the model folder, as one tar file.")
    ] = False,
) -> None:
    """Bring a job's results here; run it again to go on after an interruption."""
    target = folder or Path(f"{job_id}.tar" if archive else job_id)
    with connect() as client:
        if archive:
            client.download_archive(job_id, target)
            out.print(str(target), highlight=False, soft_wrap=True)
            return
        bring(client, job_id, target, said)
    out.print(str(target), highlight=False, soft_wrap=True)


def methods() -> None:
    """List the pruning methods and what each can remove."""
    table = Table("method", "granularities", "what it does")
    with connect() as client:
        for method in client.methods():
            table.add_row(method.name, ", ".join(method.granularities), escape(method.summary))
    print_table(table)


def workers() -> None:
    """List the worker processes, their load and their last sign of life."""
    table = Table("worker", "queues", "devices", "running", "slots", "your jobs", "last sign of life")
    with connect() as client:
        for worker in client.workers():
            table.add_row(
                worker.id,
                ", ".join(worker.queues),
                ", ".join(worker.devices),
                str(worker.running),
                str(worker.slots),
                ", ".join(worker.jobs),
                f"{worker.heartbeat_at:%Y-%m-%d %H:%M:%S}" + (" stale" if worker.stale else ""),
            )
    print_table(table)


def watch_job(client: PruneryClient, job: Job) -> None:
    """Show the progress until the job is over; raises Exit with status 1 unless it succeeded."""
    with JobBars(said) as bars:
        bars.add(job.id, job.id)
        job = follow(client, job.id, bars)
    said.print(_ending(job), markup=False, highlight=False, soft_wrap=True)
    if job.status != "succeeded":
        raise typer.Exit(1)


def _ending(job: Job) -> str:
    if job.error is not None:
        return f"failed: {job.error.param or job.error.code}: {job.error.message}"
    if job.target_missed:
        found = (job.report or {})["latency_target"]
        return (
            f"{job.status}, but slower than asked: {found['measured']:.1%} of the latency is gone, "
            f"asked were {found['asked']:.1%}"
        )
    return job.status


def target_text(job: Job) -> str:
    """How much is to be removed, in a few words."""
    if job.target_ratio is not None:
        return f"{job.target_ratio:g}"
    return "-" if job.max_quality_drop is None else f"<= {job.max_quality_drop:g} points"
