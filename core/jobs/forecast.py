"""Where queued jobs stand and when they may begin, told from a look at the queues that is a few seconds old.

Both are estimates: they hold if nobody adds or withdraws a job and jobs take as long as the last ones did.
"""

import math
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, literal_column, or_, select
from sqlalchemy.orm import Session, aliased

from core.accounts.tables import Owner
from core.clock import now
from core.jobs.fairness import QUEUED, RUNNING
from core.jobs.states import Status
from core.jobs.tables import Job
from core.workers.repository import WorkerState, list_workers

REFRESH_SECONDS = 5.0
FAR = 500
"""A job with so many of its owner's own before it has no position yet."""

RECENT, RECENT_JOBS, FEWEST_JOBS = timedelta(days=7), 200, 3
"""Which jobs say how long one of their queue takes; with fewer than the fewest nobody knows."""

_MINUTE = 60


@dataclass(frozen=True)
class Outlook:
    """What can be said of a job that waits; None where nothing can, and of jobs that do not wait.

    `position` is 1 for the next of its queue, `starts_at` is rounded up to a minute, and `waiting_for` names the
    worker that is missing when no living one can run the job.
    """

    position: int | None = None
    starts_at: datetime | None = None
    waiting_for: str | None = None


@dataclass
class _Line:
    """The queued jobs of an owner in one queue: of each priority how many, and the turn of the first."""

    running: int
    use: float
    levels: dict[int, tuple[int, float]] = field(default_factory=dict)

    def before(self, other: "_Line", own: int, priority: int) -> int:
        """How many of these go before a job of the line `other` that has `own` of its own before it.

        Owners take turns, who runs fewer jobs first; what is more urgent goes before in any case.
        """
        urgent = sum(count for level, (count, _) in self.levels.items() if level > priority)
        count, first = self.levels.get(priority, (0, math.inf))
        _, its_first = other.levels.get(priority, (0, math.inf))
        turns = other.running + own - self.running + ((self.use, first) < (other.use, its_first))
        return max(urgent, min(urgent + count, turns))


@dataclass(frozen=True)
class _Look:
    """All queues at one moment."""

    at: datetime
    taken_at: float
    lines: dict[str, dict[str, _Line]]
    run_seconds: dict[str, float]
    workers: list[WorkerState]


class Forecaster:
    """Tells the outlook of jobs. One per process: however many ask, the queues are read every five seconds at most."""

    def __init__(self, refresh_seconds: float = REFRESH_SECONDS) -> None:
        self._refresh_seconds = refresh_seconds
        self._lock = threading.Lock()
        self._last: _Look | None = None

    def outlook(self, session: Session, job: Job) -> Outlook:
        """The outlook of one job."""
        return self.outlooks(session, [job])[job.id]

    def outlooks(self, session: Session, jobs: Sequence[Job]) -> dict[str, Outlook]:
        """The outlook of each of these jobs by its id."""
        found = {job.id: Outlook() for job in jobs}
        queued = [job for job in jobs if job.status == Status.QUEUED]
        if queued:
            look, own = self._look(session), _own_before(session, queued)
            found |= {job.id: _outlook(look, job, own[job.id]) for job in queued}
        return found

    def _look(self, session: Session) -> _Look:
        with self._lock:
            if self._last is None or time.monotonic() - self._last.taken_at > self._refresh_seconds:
                self._last = _take(session)
            return self._last


def _outlook(look: _Look, job: Job, own: int) -> Outlook:
    able = [worker for worker in look.workers if worker.can_run(job)]
    position = None if own >= FAR else _position(look, job, own)
    if not able:
        return Outlook(position, None, _needs(job))
    free = sum(max(0, worker.slots - worker.running) for worker in able)
    if position is None or (position > free and job.queue not in look.run_seconds):
        return Outlook(position)
    rounds = max(0, position - free) / sum(worker.slots for worker in able)
    seconds = look.at.timestamp() + rounds * look.run_seconds.get(job.queue, 0.0)
    return Outlook(position, datetime.fromtimestamp(-(-seconds // _MINUTE) * _MINUTE, look.at.tzinfo))


def _position(look: _Look, job: Job, own: int) -> int:
    """As `fairness` has it, but that it says nothing of how priorities become equal by waiting."""
    lines = look.lines.get(job.queue, {})
    mine = lines.get(job.owner_id) or _Line(0, 0.0, {job.priority: (1, job.turn)})
    others = (line for owner, line in lines.items() if owner != job.owner_id)
    return 1 + own + sum(line.before(mine, own, job.priority) for line in others)


def _needs(job: Job) -> str:
    if job.queue == "cpu":
        return "a worker"
    gpus = "a GPU" if job.gpus == 1 else f"{job.gpus} GPUs for each job"
    return f"a worker with {gpus}" + (f" of at least {job.gpu_memory_gib} GiB" if job.gpu_memory_gib else "")


def _own_before(session: Session, jobs: Sequence[Job]) -> dict[str, int]:
    """How many of its own line go before each of these queued jobs; at most `FAR` are counted."""
    return dict(session.execute(_OWN_BEFORE, {"ids": [job.id for job in jobs]}).all())


def _queued(job: type[Job]) -> ColumnElement[bool]:
    return job.status == literal_column(f"'{Status.QUEUED}'")


def _count_own_before() -> Select[str, int]:
    other = aliased(Job)
    earlier = or_(other.turn < Job.turn, and_(other.turn == Job.turn, other.id < Job.id))
    mine = (other.owner_id == Job.owner_id, other.queue == Job.queue, _queued(other))
    few = select(other.id).where(*mine, earlier).limit(FAR).correlate(Job).subquery()
    before = select(func.count()).select_from(few).scalar_subquery()
    return select(Job.id, before).where(Job.id.in_(bindparam("ids", expanding=True)))


_OWN_BEFORE = _count_own_before()
"""Made once: making it takes longer than asking it."""


def _take(session: Session) -> _Look:
    at = now(session)
    workers = [worker for worker in list_workers(session) if not worker.stale]
    return _Look(at, time.monotonic(), _lines(session), _run_seconds(session, at), workers)


def _lines(session: Session) -> dict[str, dict[str, _Line]]:
    held = select(Job.owner_id, func.count()).where(RUNNING).group_by(Job.owner_id)
    running = dict(session.execute(held).all())
    # All that is asked for is in the index of claims: no row is read.
    counted = select(Job.queue, Job.owner_id, Job.priority, func.count(), func.min(Job.turn)).where(QUEUED)
    counts = session.execute(counted.group_by(Job.queue, Job.owner_id, Job.priority)).all()
    owners = {owner for _, owner, *_ in counts}
    used = select(Owner.id, Owner.recent_use).where(Owner.id.in_(owners))
    use = dict(session.execute(used).all())
    lines: dict[str, dict[str, _Line]] = defaultdict(dict)
    for queue, owner, priority, count, first in counts:
        line = lines[queue].setdefault(owner, _Line(running.get(owner, 0), use[owner]))
        line.levels[priority] = (count, first)
    return lines


def _run_seconds(session: Session, at: datetime) -> dict[str, float]:
    """How long the last jobs of each queue ran, waits and pauses left out."""
    last = (
        select(Job.queue, Job.device_seconds, Job.spec)
        .where(Job.finished_at > at - RECENT, Job.status == Status.SUCCEEDED, Job.device_seconds > 0)
        .order_by(Job.finished_at.desc())
        .limit(RECENT_JOBS)
    )
    seconds: dict[str, list[float]] = defaultdict(list)
    for queue, used, spec in session.execute(last):
        seconds[queue].append(used / spec.get("devices", 1))
    return {queue: median(found) for queue, found in seconds.items() if len(found) >= FEWEST_JOBS}
