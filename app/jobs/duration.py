"""How long a planned job will take: by the owner's earlier jobs where there are any like it."""

import statistics
from collections.abc import Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, Field, ValidationError

from core.jobs.durations import EndedRun
from pruning.data.rows import DataSummary
from pruning.forecast.schemas import Work
from pruning.forecast.work import work
from pruning.planning.catalogue import method
from pruning.planning.costs import total_cost
from pruning.planning.plan import Plan

SIZE_CLASS = 4.0
"""Jobs are alike when neither's model has more than so many times the other's weights."""

_RATES = {"cpu": 2e10, "auto": 2e10, "cuda": 1e13}
"""FLOPs a second that are assumed of a worker, by the device that is asked for; `auto` may find no GPU."""

_START_SECONDS = 30.0
"""To load the libraries, and the result once more in a process of its own."""


class Duration(BaseModel):
    """Seconds that the job will run, once a worker has taken it up."""

    seconds: float | None = Field(description="The estimate; null where there is nothing to go by.")
    least: float | None = Field(description="By the quickest of the earlier jobs.")
    most: float | None = Field(description="By the slowest of the earlier jobs.")
    basis: Literal["earlier_jobs", "assumed_rate", "none"] = Field(
        description="earlier_jobs: yours of the same method, device and size class, scaled by the work. "
        "assumed_rate: FLOPs at `flops_per_second`, an order of magnitude."
    )
    jobs: int = Field(description="How many earlier jobs that is.")
    flops_per_second: float | None = Field(description="The rate that was assumed.")


def duration(plan: Plan, needed: Work, runs: Sequence[EndedRun]) -> Duration:
    """Estimate by what earlier runs took for their work; without any by an assumed rate, if all work is known."""
    scaled = list(_scaled(plan, needed, runs))
    if scaled:
        return Duration(
            seconds=round(statistics.median(scaled), 1),
            least=round(min(scaled), 1),
            most=round(max(scaled), 1),
            basis="earlier_jobs",
            jobs=len(scaled),
            flops_per_second=None,
        )
    unknown = {"least": None, "most": None, "jobs": 0}
    if not needed.complete:
        return Duration(seconds=None, basis="none", flops_per_second=None, **unknown)
    rate = _RATES[plan.spec.device]
    seconds = round(_START_SECONDS + needed.total / rate, 1)
    return Duration(seconds=seconds, basis="assumed_rate", flops_per_second=rate, **unknown)


def _scaled(plan: Plan, needed: Work, runs: Sequence[EndedRun]) -> Iterator[float]:
    """What each run of the same size class would have taken for this work.

    Where the passes are not all of the work it grows with the weights.
    """
    weights = total_cost(plan.shape, "weights", plan.length)
    for run in runs:
        try:
            old = Plan.model_validate(run.report["plan"])
            data = DataSummary.model_validate(run.summary)
            seconds = sum(run.report["seconds"].values())
        except (KeyError, AttributeError, TypeError, ValidationError):  # of another version
            continue
        its_weights = total_cost(old.shape, "weights", old.length)
        if not 1 / SIZE_CLASS <= weights / its_weights <= SIZE_CLASS:
            continue
        done = work(old, data, method(old.method) if old.spec.prunes else None)
        by_passes = needed.complete and done.total > 0
        yield seconds * (needed.total / done.total if by_passes else weights / its_weights)
