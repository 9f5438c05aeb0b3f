"""The commands that talk to a service: submit, watch, list, cancel, download, methods, workers."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cli.connection import connect
from cli.console import out, print_table, said
from cli.progress import JobBars, follow
from cli.request import dataset_reference, merge, model_reference
from cli.transfers import download as bring
from cli.transfers import upload_dataset, upload_model
from client import Job, Model, PruneryClient

JobId = Annotated[str, typer.Argument(help="The job's id, job_...")]


def submit(
    model: Annotated[
        str, typer.Option(help="Local Hugging Face folder, mdl_..., job_..., or org/name@revision.")
    ],
    dataset: Annotated[str, typer.Option(help="Local file or folder, dst_..., or org/name:config@revision.")],
    ratio: Annotated[
        float | None, typer.Option(help="The fraction to remove, 0 <= ratio < 1; 0 only fine-tunes.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(help="In place of --ratio: the most points of quality that may be lost."),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(help="What the model learns from, named as --model is; default: its own dense self."),
    ] = None,
    granularity: Annotated[
        str, typer.Option(help="What is removed as a whole; see `prunery methods`.")
    ] = "structured",
    method: Annotated[str, typer.Option(help="How it is chosen; see `prunery methods`.")] = "auto",
    measure: Annotated[
        str | None, typer.Option(help="What the ratio counts: weights, flops, parameters or latency.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="sequence-classification, regression, token-classification, question-answering or causal-lm; "
            "default: inferred."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    devices: Annotated[int, typer.Option(min=1, help="GPUs that share each batch of training.")] = 1,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Any other field of the request: finetune.epochs=2, method.NAME=VALUE ..."
        ),
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: the same key never makes two jobs.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, create no job.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay and show the progress.")] = False,
) -> None:
    """Upload what is local, create a job, and print its id."""
    fields: dict[str, Any] = {"granularity": granularity, "method": {"name": method}, "seed": seed}
    if granularity != "vocabulary" and (ratio is None) == (max_drop is None):
        raise typer.BadParameter("give one of --ratio and --max-drop", param_hint="--ratio")
    chosen = {
        "target_measure": measure,
        "task": task,
        "max_quality_drop": max_drop,
        "devices": devices if devices > 1 else None,
    }
    fields = merge(
        fields | {name: value for name, value in chosen.items() if value is not None}, assignments or ()
    )
    with connect() as client:

        def uploaded(folder: Path) -> Model:
            return upload_model(client, folder, said)

        model_given = model_reference(model, uploaded)
        if teacher is not None:
            fields["teacher"] = model_reference(teacher, uploaded, "--teacher")
        dataset_given = dataset_reference(dataset, lambda source: upload_dataset(client, source, said))
        if dry_run:
            out.print_json(
                data=client.validate(model_given, dataset_given, ratio, **fields).model_dump(mode="json")
            )
            return
        job = client.submit(model_given, dataset_given, ratio, idempotency_key=key, **fields)
        asked = f"{job.method} at {_target(job)} of {job.target_measure}"
        if job.granularity == "vocabulary":
            asked = "the tokens that the dataset needs"
        said.print(f"{asked}, {job.task}", highlight=False)
        out.print(job.id, highlight=False)
        if watch:
            _watch(client, job)


def watch(job_id: JobId) -> None:
    """Show a job's progress until it is over; the exit status is 0 when it succeeded."""
    with connect() as client:
        _watch(client, client.job(job_id))


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
                _target(job),
                f"{job.created_at:%Y-%m-%d %H:%M:%S}",
            )
    print_table(table)


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


def _watch(client: PruneryClient, job: Job) -> None:
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


def _target(job: Job) -> str:
    if job.target_ratio is not None:
        return f"{job.target_ratio:g}"
    return "-" if job.max_quality_drop is None else f"<= {job.max_quality_drop:g} points"
