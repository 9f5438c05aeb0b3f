"""`prune`: the whole job, from a request to a measured model on disk. The one entry point of the library."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pruning.delivery.deliver import Results, deliver, export_model
from pruning.errors import OutOfMemory
from pruning.report import Report
from pruning.spec import Event, Events, PruneSpec, ShouldStop
from pruning.steps.job import Job, deterministic, json_of, open_job, quiet
from pruning.steps.progress import Progress
from pruning.steps.search import find_cut, steps_of
from pruning.steps.stages import (
    check_shrunk,
    final_model,
    finetune,
    judge,
    prune_model,
    recover,
    zeroed_dir,
)
from pruning.steps.timing import check_promise, latency_result, measure_latency, with_table


def prune(
    spec: PruneSpec,
    model_dir: Path,
    dataset_dir: Path,
    out_dir: Path,
    events: Events = lambda event: None,
    should_stop: ShouldStop = lambda: None,
    *,
    teacher_dir: Path | None = None,
) -> Report:
    """Prune the model in `model_dir` as `spec` says and write the result to `out_dir`.

    With distillation the model learns from that in `teacher_dir`, a model of the same family with the same
    vocabulary and a head trained for the same labels; by default from its own dense self.

    `out_dir` gets `model/` (a Hugging Face directory), `report.json`, `plan.json`, `masks.safetensors` and
    `README.md`; `out_dir/work` keeps what is needed to go on. Called again with the same arguments it skips
    what is finished, resumes training from its last checkpoint, and gives the same bytes.

    `events` hears progress at least every two seconds; `should_stop` is asked after every batch. Raises the
    errors of `pruning.errors`, among them Canceled, and OutOfMemory when the device has too little memory.
    """
    progress = Progress(events, should_stop)
    with _memory_errors(), quiet():
        out_dir.mkdir(parents=True, exist_ok=True)
        with progress.step("load", "loading"):
            job = open_job(spec, model_dir, dataset_dir, out_dir, progress, teacher_dir)
        for notice in job.plan.warnings:
            events(Event("warning", json_of(notice)))
        with deterministic(job.spec.seed, job.device):
            report = _prune(job) if job.spec.prunes else _tune(job)
    return report


def _tune(job: Job) -> Report:
    """Dense fine-tuning only."""
    job.progress.lay_out({"before": 3, "finetune": 80, "after": 3, "export": 6})
    before = judge(job, "before", lambda: job.load(job.model_dir))
    dense_dir = finetune(job)
    after = judge(job, "after", lambda: job.load(dense_dir))
    exported = export_model(job, dense_dir, None)
    return deliver(job, None, Results(before=before, after=after, exported=exported))


def _prune(job: Job) -> Report:
    """Fine-tune when planned, find the ratio when it is open, prune, shrink, recover when planned, export, measure."""
    job.progress.lay_out(_shares(job))
    dense_dir = finetune(job)
    before = judge(job, "before", lambda: job.load(dense_dir))
    job, search = with_table(job, dense_dir), None
    if job.spec.max_quality_drop is not None:
        job, search = find_cut(job, dense_dir)
    outcome = prune_model(job, dense_dir)
    check_promise(job, outcome)
    after = pruned = judge(job, "pruned", lambda: job.load(zeroed_dir(job)))
    equality = check_shrunk(job, outcome)
    if job.spec.recover is not False:
        recover(job, dense_dir, outcome)
        after = judge(job, "after", lambda: final_model(job, dense_dir, outcome))
    exported = export_model(job, dense_dir, outcome)
    latency = measure_latency(job, dense_dir, outcome)
    target = latency_result(job, outcome, latency)
    results = Results(before, after, exported, pruned, equality, latency, target, search)
    return deliver(job, outcome, results)


def _shares(job: Job) -> dict[str, float]:
    """How long each step is against the others; a guess, so that progress moves evenly."""
    timed = job.plan.target_measure == "latency"
    shares: dict[str, float] = {"finetune": 40, "before": 3, "table": 10}
    shares |= steps_of(job.spec.quality_candidates or 0)
    shares |= {"prune": 40, "pruned": 3, "shrink": 1, "recover": 20, "after": 3}
    shares |= {"export": 5, "measure": 5 if job.spec.evaluate.latency or timed else 0}
    skipped = {"finetune"} if job.spec.finetune is False else set()
    if not timed:
        skipped.add("table")
    if job.spec.max_quality_drop is None:
        skipped.add("dense")
    if job.spec.recover is False:
        skipped |= {"recover", "after"}
    return {name: share for name, share in shares.items() if name not in skipped}


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Turn every way of running out of memory into OutOfMemory."""
    remedy = "Lower batch_size or max_length, or use a machine with more memory."
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise OutOfMemory("The device ran out of memory.", remedy=remedy) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory("The machine ran out of memory.", remedy=remedy) from error
