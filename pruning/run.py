"""`prune`: the whole job, from a request to a measured model on disk. The one entry point of the library."""

from pathlib import Path

from pruning.delivery.deliver import Results, deliver, export_model
from pruning.events import Event, Events, ShouldStop
from pruning.report import Report
from pruning.spec import PruneSpec
from pruning.steps.crew import Crew, Inputs
from pruning.steps.exports import export_onnx
from pruning.steps.job import Job, deterministic, json_of, memory_errors, open_job, quiet
from pruning.steps.progress import Progress
from pruning.steps.search import find_cut, steps_of
from pruning.steps.stages import (
    check_shrunk,
    final_model,
    finetune,
    judge,
    prune_model,
    recover,
)
from pruning.steps.timing import (
    check_promise,
    latency_result,
    measure_kernels,
    measure_latency,
    measure_units,
    tries_kernels,
)
from pruning.steps.trained import PRUNE, zeroed_dir
from pruning.steps.vocabulary import check_answers, cut_vocabulary


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

    `out_dir` gets `model/` (a Hugging Face directory), `report.json`, `plan.json`, `masks.safetensors`, `README.md`
    and, where `exports` asks for it, `onnx/`; `out_dir/work` keeps what is needed to go on. Called again with the same
    arguments it skips what is finished, resumes training from its last checkpoint, and gives the same bytes.

    `events` hears progress at least every two seconds; `should_stop` is asked after every batch. Raises the
    errors of `pruning.errors`, among them Canceled, and OutOfMemory when the device has too little memory.
    """
    progress = Progress(events, should_stop)
    with memory_errors(), quiet():
        out_dir.mkdir(parents=True, exist_ok=True)
        with progress.step("load", "loading"):
            job = open_job(spec, model_dir, dataset_dir, out_dir, progress, teacher_dir)
        for notice in job.plan.warnings:
            events(Event("warning", json_of(notice)))
        inputs = Inputs(spec, model_dir, dataset_dir, out_dir, teacher_dir)
        with deterministic(job.spec.seed, job.device), Crew(inputs, job.device, progress) as crew:
            if job.spec.cuts_vocabulary:
                report = _cut(job, crew, dataset_dir)
            else:
                report = _prune(job, crew) if job.spec.prunes else _tune(job, crew)
    return report


def _tune(job: Job, crew: Crew) -> Report:
    """Dense fine-tuning only."""
    job.progress.lay_out({"before": 3, "finetune": 80, "after": 3, "export": 6} | _exports(job))
    before = judge(job, "before", lambda: job.load(job.model_dir))
    dense_dir = finetune(job, crew)
    after = judge(job, "after", lambda: job.load(dense_dir))
    exported = export_model(job, dense_dir, None)
    onnx = export_onnx(job, dense_dir, None)
    return deliver(job, None, Results(before=before, after=after, exported=exported, onnx=onnx))


def _cut(job: Job, crew: Crew, dataset_dir: Path) -> Report:
    """Fine-tune when planned, cut the vocabulary, export, measure."""
    shares = (
        {"finetune": 40.0, "before": 3, PRUNE: 3, "after": 3, "export": 5} | _exports(job) | {"measure": 5}
    )
    job.progress.lay_out(shares)
    dense_dir = finetune(job, crew)
    before = judge(job, "before", lambda: job.load(dense_dir))
    cut = cut_vocabulary(job, dense_dir, dataset_dir)
    small, folder = cut.job, cut.folder
    equality = check_answers(job.load(dense_dir), job, small.load(folder), small)
    after = judge(small, "after", lambda: small.load(folder))
    exported = export_model(small, folder, None)
    onnx = export_onnx(small, folder, None)
    latency = measure_latency(job, dense_dir, lambda: small.load(folder))
    results = Results(
        before, after, exported, equality=equality, latency=latency, onnx=onnx, vocabulary=cut.kept
    )
    return deliver(small, None, results, {"vocabulary": cut.mask})


def _prune(job: Job, crew: Crew) -> Report:
    """Fine-tune when planned, find the ratio when it is open, prune, shrink, recover when planned, export, measure."""
    job.progress.lay_out(_shares(job))
    dense_dir = finetune(job, crew)
    before = judge(job, "before", lambda: job.load(dense_dir))
    measure_units(job, dense_dir)
    search = None
    if job.spec.max_quality_drop is not None:
        job, search = find_cut(job, crew, dense_dir)
    outcome = prune_model(job, crew)
    check_promise(job, outcome)
    after = pruned = judge(job, "pruned", lambda: job.load(zeroed_dir(job)))
    equality = check_shrunk(job, outcome)
    if job.spec.recover is not False:
        outcome = recover(job, crew, outcome)
        after = judge(job, "after", lambda: final_model(job, dense_dir, outcome))
    exported = export_model(job, dense_dir, outcome)
    onnx = export_onnx(job, dense_dir, outcome)
    latency = measure_latency(job, dense_dir, lambda: final_model(job, dense_dir, outcome))
    target = latency_result(job, outcome, latency)
    kernels = measure_kernels(job, dense_dir, lambda: final_model(job, dense_dir, outcome))
    results = Results(before, after, exported, pruned, equality, latency, target, search, onnx, kernels)
    return deliver(job, outcome, results)


def _exports(job: Job) -> dict[str, float]:
    return dict.fromkeys(job.spec.exports, 5.0)


def _shares(job: Job) -> dict[str, float]:
    """How long each step is against the others; a guess, so that progress moves evenly."""
    timed = job.plan.target_measure == "latency"
    shares: dict[str, float] = {"finetune": 40, "before": 3, "table": 10}
    shares |= steps_of(job.spec.quality_candidates or 0)
    shares |= {"prune": 40, "pruned": 3, "shrink": 1, "recover": 20, "after": 3}
    shares |= {"export": 5} | _exports(job)
    shares |= {"measure": 5 if job.spec.evaluate.latency or timed else 0, "kernels": 3}
    skipped = {"finetune"} if job.spec.finetune is False else set()
    if not timed:
        skipped.add("table")
    if not tries_kernels(job):
        skipped.add("kernels")
    if job.spec.max_quality_drop is None:
        skipped.add("dense")
    if job.spec.recover is False:
        skipped |= {"recover", "after"}
    return {name: share for name, share in shares.items() if name not in skipped}
