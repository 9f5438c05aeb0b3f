"""How the jobs of all owners fare, for whoever watches over the service: how many wait, and how others ended."""

import threading
from bisect import bisect_left
from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from core.clock import now
from core.db import Database
from core.db.base import Json
from core.jobs.states import Status
from core.jobs.tables import Job
from core.queues import QUEUES

WAIT_BOUNDS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)
"""Upper bounds of the histogram of waiting times, in seconds."""

RUN_BOUNDS = (10.0, 60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 86_400.0)
"""Upper bounds of the histogram of running times, in seconds."""

SETTLE_SECONDS = 300.0
"""A job's end may be committed this long after the moment that it names, and is still counted."""

_ROWS = 1000
"""Rows in memory at a time."""


@dataclass(frozen=True)
class ActiveJobs:
    """The jobs of one queue in one state that is not terminal."""

    queue: str
    status: Status
    count: int
    oldest_seconds: float


def active_jobs(session: Session) -> list[ActiveJobs]:
    """How many jobs are not over, by queue and state, and the age of the oldest of each in seconds."""
    query = (
        select(Job.queue, Job.status, func.count(), func.min(Job.created_at))
        .where(Job.finished_at.is_(None))
        .group_by(Job.queue, Job.status)
    )
    at = now(session)
    return [
        ActiveJobs(queue, status, count, max(0.0, (at - oldest).total_seconds()))
        for queue, status, count, oldest in session.execute(query)
    ]


@dataclass
class Histogram:
    """Observations by the smallest of `bounds` that they do not exceed; the last count is of those beyond all."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        """Begin with nothing observed."""
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Add one observation."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


def _by_queue(bounds: tuple[float, ...]) -> dict[str, Histogram]:
    return {queue: Histogram(bounds) for queue in QUEUES}


class Ending(NamedTuple):
    """What is read of a job that is over; only one that failed has an error."""

    queue: str
    status: Status
    error: Json | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime


@dataclass
class Totals:
    """What became of all jobs that are over.

    `ended` counts by (queue, status), `failed` by (queue, class of error). `wait` is the time in seconds from
    a job's creation to its first attempt, of jobs that had one; `run` from there to its end, with the waits
    between its attempts.
    """

    ended: Counter[tuple[str, Status]] = field(default_factory=Counter)
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    wait: dict[str, Histogram] = field(default_factory=lambda: _by_queue(WAIT_BOUNDS))
    run: dict[str, Histogram] = field(default_factory=lambda: _by_queue(RUN_BOUNDS))

    def add(self, job: Ending) -> None:
        """Count one job that is over."""
        self.ended[job.queue, job.status] += 1
        if job.error is not None:
            self.failed[job.queue, job.error["class"]] += 1
        if job.started_at is not None:
            self.wait[job.queue].observe(max(0.0, (job.started_at - job.created_at).total_seconds()))
            self.run[job.queue].observe(max(0.0, (job.finished_at - job.started_at).total_seconds()))


class EndedJobs:
    """Counts the jobs that are over by reading each of them once.

    A job that is over never changes, so what was counted is kept and later calls read only what ended since,
    less `SETTLE_SECONDS`. Every process reads the same rows, so all of them say the same.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._settled = Totals()
        self._until: datetime | None = None

    def totals(self) -> Totals:
        """Everything that is committed by now; raises DatabaseUnavailable, and then counts nothing twice."""
        with self._lock, self._database.snapshot() as session:
            until = now(session) - timedelta(seconds=SETTLE_SECONDS)
            if self._until is not None:
                until = max(until, self._until)
            settled, recent = deepcopy(self._settled), list[Ending]()
            columns = (getattr(Job, name) for name in Ending._fields)
            query = select(*columns).where(self._unread())
            for job in map(Ending._make, session.execute(query, execution_options={"yield_per": _ROWS})):
                if job.finished_at < until:
                    settled.add(job)
                else:
                    recent.append(job)
            self._settled, self._until = settled, until
        totals = deepcopy(settled)
        for job in recent:
            totals.add(job)
        return totals

    def _unread(self) -> ColumnElement[bool]:
        """Which jobs may have ended since; the index of `finished_at` finds them."""
        return Job.finished_at.is_not(None) if self._until is None else Job.finished_at >= self._until
