"""The search for the largest cut that loses at most so many points: a bisection in steps that a crash cannot lose."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pruning.errors import TargetUnreachable
from pruning.report import Candidate, Search
from pruning.steps.job import Job, json_of
from pruning.steps.stages import PRUNE, judge, prune_model, zeroed_dir

_POINT = 0.01
_ROUNDING = 1e-9


def bisect(reach: float, candidates: int, within: Callable[[int, float], bool]) -> float | None:
    """The largest tried ratio that is within the limit, None when none was; tries `candidates` of 0..`reach`.

    `within` gets the index of the candidate and its ratio. Every candidate halves what is open between the largest
    ratio that was within and the smallest above it that was not.
    """
    good, bad, found = 0.0, reach, None
    for index in range(candidates):
        ratio = (good + bad) / 2
        if within(index, ratio):
            good = found = ratio
        else:
            bad = ratio
    return found


def find_cut(job: Job, dense_dir: Path) -> tuple[Job, Search]:
    """The job at the ratio that was found, whose step `prune` is done, and how it was found.

    Every candidate is cut from the same dense model and judged on the selection rows. Its result is a step of its own;
    the pruned model is kept only while it is the best. Raises TargetUnreachable when the smallest cut loses too much.
    """
    limit, reach = job.spec.max_quality_drop or 0.0, job.plan.largest_ratio or 0.0
    rows, primary = job.data.selection, job.task.primary
    dense = judge(job, "dense", lambda: job.load(dense_dir), rows)["metrics"][primary]
    tried: list[Candidate] = []
    best: list[str] = []

    def within(index: int, ratio: float) -> bool:
        tried.append(_candidate(replace(job, found=ratio), dense_dir, index, dense, limit))
        spent = best if tried[-1].within else [_cut(index)]
        for name in spent:
            shutil.rmtree(job.steps.path(name), ignore_errors=True)
        if tried[-1].within:
            best[:] = [_cut(index)]
        return tried[-1].within

    chosen = bisect(reach, job.spec.quality_candidates or 0, within)
    if chosen is None:
        raise _too_much(tried[-1], limit)
    found = replace(job, found=chosen)
    if not job.steps.done(PRUNE) and job.steps.done(best[0]):
        job.steps.path(PRUNE).unlink(missing_ok=True) if job.steps.path(PRUNE).is_file() else None
        job.steps.path(best[0]).replace(job.steps.path(PRUNE))
    return found, Search(
        max_drop=limit,
        split=job.data.split,
        rows=0 if rows is None else rows.examples,
        primary=primary,
        dense=dense,
        reach=reach,
        chosen=chosen,
        candidates=tuple(tried),
    )


def _cut(index: int) -> str:
    return f"cut-{index}"


def _candidate(job: Job, dense_dir: Path, index: int, dense: float, limit: float) -> Candidate:
    """Cut and judge at the job's ratio, unless that was done before."""
    name = f"candidate-{index}"
    if not job.steps.done(name):
        prune_model(job, dense_dir, _cut(index))
        judged = judge(job, f"judged-{index}", lambda: job.load(zeroed_dir(job, _cut(index))), job.data.selection)
        quality = judged["metrics"][job.task.primary]
        drop = (dense - quality) / _POINT
        candidate = Candidate(
            ratio=job.ratio,
            quality=quality,
            drop=drop,
            weights=judged["weights"],
            within=drop <= limit + _ROUNDING,
        )
        job.steps.save(name, json_of(candidate))
    return Candidate.model_validate(job.steps.load(name))


def _too_much(smallest: Candidate, limit: float) -> TargetUnreachable:
    return TargetUnreachable(
        f"No cut that was tried loses at most {limit:g} points: the smallest, {smallest.ratio:.4g}, "
        f"loses {smallest.drop:.3g}.",
        nearest=0.0,
        param="/max_quality_drop",
        remedy="Allow a larger drop, or give target_ratio with a method that trains.",
    )
