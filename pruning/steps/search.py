"""The search for the largest cut that loses at most so many points: a bisection whose every step survives a crash."""

import shutil
from dataclasses import replace
from pathlib import Path

from pruning.errors import TargetUnreachable
from pruning.report import Candidate, Search
from pruning.steps.crew import Crew
from pruning.steps.job import Job, json_of
from pruning.steps.stages import judge, prune_model
from pruning.steps.trained import MEASURED, PRUNE, zeroed_dir

_POINTS = 100
_ROUNDING = 1e-9


def find_cut(job: Job, crew: Crew, dense_dir: Path) -> tuple[Job, Search]:
    """The job at the ratio that was found, with that cut as its step `prune`, and how it was found.

    Every candidate is cut from the same dense model and judged on the selection rows; it halves what is open between
    the largest ratio that was within the limit and the smallest that was not. What a method measures of the dense model
    is measured once for all of them. A candidate's result is a step of its own, the pruned model is kept only while it
    is the best. Raises TargetUnreachable when even the smallest cut loses too much.
    """
    limit, reach = job.spec.max_quality_drop or 0.0, job.plan.largest_ratio or 0.0
    primary, rows = job.task.primary, job.data.selection
    dense = judge(job, "dense", lambda: job.load(dense_dir), rows)["metrics"][primary]
    tried: list[Candidate] = []
    good, bad, best = 0.0, reach, -1
    for index in range(job.spec.quality_candidates or 0):
        candidate = _candidate(replace(job, found=(good + bad) / 2), crew, index, dense)
        tried.append(candidate)
        _forget(job, best if candidate.within else index)
        if candidate.within:
            good, best = candidate.ratio, index
        else:
            bad = candidate.ratio
    if best < 0:
        raise _too_much(tried[-1], limit)
    _adopt(job, best)
    shutil.rmtree(job.scratch(MEASURED), ignore_errors=True)
    search = Search(
        max_drop=limit,
        split=job.data.split,
        rows=0 if rows is None else rows.examples,
        primary=primary,
        dense=dense,
        reach=reach,
        chosen=good,
        candidates=tuple(tried),
        frontier=_frontier(tried),
    )
    return replace(job, found=good), search


def steps_of(candidates: int) -> dict[str, float]:
    """The steps of a search, and how long each is against the others of a job."""
    shares = {"dense": 3.0}
    for index in range(candidates):
        shares |= {_cut(index): 40.0, f"judged-{index}": 3.0}
    return shares


def _cut(index: int) -> str:
    return f"cut-{index}"


def _candidate(job: Job, crew: Crew, index: int, dense: float) -> Candidate:
    """Cut and judge at the job's ratio, unless that was done before."""
    name, cut = f"candidate-{index}", _cut(index)
    if not job.steps.done(name):
        prune_model(job, crew, cut)
        rows = job.data.selection
        judged = judge(job, f"judged-{index}", lambda: job.load(zeroed_dir(job, cut)), rows)
        quality = judged["metrics"][job.task.primary]
        drop = _POINTS * (dense - quality)
        candidate = Candidate(
            ratio=job.ratio,
            quality=quality,
            drop=drop,
            weights=judged["weights"],
            within=drop <= (job.spec.max_quality_drop or 0.0) + _ROUNDING,
        )
        job.steps.save(name, json_of(candidate))
    return Candidate.model_validate(job.steps.load(name))


def _frontier(tried: list[Candidate]) -> tuple[Candidate, ...]:
    """Those that no other beats in ratio without losing quality, smallest ratio first."""
    found: list[Candidate] = []
    for each in sorted(tried, key=lambda candidate: candidate.ratio, reverse=True):
        if not found or each.quality > found[-1].quality:
            found.append(each)
    return tuple(reversed(found))


def _forget(job: Job, index: int) -> None:
    """Delete the model of a cut that is not the best (any more)."""
    shutil.rmtree(job.steps.path(_cut(index)), ignore_errors=True)


def _adopt(job: Job, index: int) -> None:
    """Make a cut the step `prune`; a cut that a crash took is made again by that step itself."""
    if job.steps.done(PRUNE) or not job.steps.done(_cut(index)):
        return
    shutil.rmtree(job.steps.path(PRUNE), ignore_errors=True)
    job.steps.path(_cut(index)).replace(job.steps.path(PRUNE))


def _too_much(smallest: Candidate, limit: float) -> TargetUnreachable:
    return TargetUnreachable(
        f"No cut that was tried loses at most {limit:g} points: the smallest, {smallest.ratio:.4g}, "
        f"loses {smallest.drop:.3g}.",
        nearest=0.0,
        param="/max_quality_drop",
        remedy="Allow a larger drop, or give target_ratio with a method that trains.",
    )
