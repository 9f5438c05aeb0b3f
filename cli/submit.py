"""The commands that describe a job: submit makes one, plan only says what it would do and need."""

from typing import Annotated

import typer

from cli import options
from cli.connection import connect
from cli.console import out, said
from cli.forecast import show_plan
from cli.jobs import target_text, watch_job
from cli.options import request_fields, upload_inputs
from client import Job


def submit(
    model: options.Model,
    dataset: options.Dataset,
    ratio: options.Ratio = None,
    max_drop: options.MaxDrop = None,
    teacher: options.Teacher = None,
    granularity: options.Granularity = "structured",
    method: options.Method = "auto",
    measure: options.Measure = None,
    task: options.Task = None,
    seed: options.Seed = 0,
    devices: options.Devices = 1,
    assignments: options.Assignments = None,
    key: Annotated[
        str | None, typer.Option(help="Idempotency key: the same key never makes two jobs.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, create no job.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay and show the progress.")] = False,
) -> None:
    """Upload what is local, create a job, and print its id."""
    fields = request_fields(
        ratio,
        max_drop=max_drop,
        granularity=granularity,
        method=method,
        measure=measure,
        task=task,
        seed=seed,
        devices=devices,
        assignments=assignments,
    )
    with connect() as client:
        asked = upload_inputs(client, model, dataset, teacher, ratio, fields)
        if dry_run:
            found = client.validate(asked.model, asked.dataset, ratio, **asked.fields)
            out.print_json(data=found.model_dump(mode="json"))
            return
        job = client.submit(asked.model, asked.dataset, ratio, idempotency_key=key, **asked.fields)
        said.print(f"{_asked(job)}, {job.task}", highlight=False)
        if job.waiting_for is not None:
            said.print(f"no living worker can run it: it waits for {job.waiting_for}", highlight=False)
        out.print(job.id, highlight=False)
        if watch:
            watch_job(client, job)


def plan(
    model: options.Model,
    dataset: options.Dataset,
    ratio: options.Ratio = None,
    max_drop: options.MaxDrop = None,
    teacher: options.Teacher = None,
    granularity: options.Granularity = "structured",
    method: options.Method = "auto",
    measure: options.Measure = None,
    task: options.Task = None,
    seed: options.Seed = 0,
    devices: options.Devices = 1,
    assignments: options.Assignments = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for machines.")] = False,
) -> None:
    """Upload what is local, and say what a job would remove and need; the exit status is 1 when it cannot."""
    fields = request_fields(
        ratio,
        max_drop=max_drop,
        granularity=granularity,
        method=method,
        measure=measure,
        task=task,
        seed=seed,
        devices=devices,
        assignments=assignments,
    )
    with connect() as client:
        asked = upload_inputs(client, model, dataset, teacher, ratio, fields)
        found = client.plan(asked.model, asked.dataset, ratio, **asked.fields)
    if as_json:
        out.print_json(data=found.model_dump(mode="json"))
    else:
        show_plan(found)
    if not found.target.reachable:
        raise typer.Exit(1)


def _asked(job: Job) -> str:
    if job.granularity == "vocabulary":
        return "the tokens that the dataset needs"
    return f"{job.method} at {target_text(job)} of {job.target_measure}"
