"""Repairing what nobody else can: leases of dead workers, waits that are too long, rings that nobody heard.

Every API and worker process runs `reconcile` once a second; its writes are conditional, so none leads.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import ColumnElement, Select, bindparam, select
from sqlalchemy.orm import Session

from core.clock import now
from core.db import Database
from core.db.base import Moment
from core.jobs.attempts import JobError
from core.jobs.changes import change
from core.jobs.fairness import POINT_SECONDS, QUEUED, first_of_each_line, is_due
from core.jobs.leases import end_attempt
from core.jobs.states import HELD, Action, RetryPolicy, transition
from core.jobs.tables import Job
from core.queues import QUEUES
from core.settings import Settings

UNHEARD = timedelta(seconds=1)
"""A queued job that has been due for this long was not heard when it was rung for."""
BATCH = 100


@dataclass(frozen=True)
class Reconciled:
    """What one pass found: leases run out, waits too long, and the queues with due jobs to ring for."""

    expired: int = 0
    timed_out: int = 0
    ring: frozenset[str] = frozenset()


def reconcile(database: Database, settings: Settings) -> Reconciled:
    """One pass. Reads first, so that a pass with nothing to do keeps no writer waiting."""
    with database.read() as session:
        at = now(session)
        expired = _ids(session, *_lease_out(at))
        overdue = _ids(session, *_waited_too_long(settings, at)) if settings.queue_timeout_seconds else []
        ring = _due(session, at)
    policy = RetryPolicy(settings.max_failures, settings.retry_backoff_seconds)
    return Reconciled(
        expired=sum(_expire(database, job_id, policy) for job_id in expired),
        timed_out=sum(_time_out(database, job_id, settings) for job_id in overdue),
        ring=ring,
    )


def _expire(database: Database, job_id: str, policy: RetryPolicy) -> bool:
    with database.write() as session:
        job = _locked(session, job_id, *_lease_out(now(session)))
        if job is None:
            return False
        message = f"The worker of attempt {job.attempt} was not heard from until its lease ran out."
        end_attempt(session, job, JobError("worker_lost", "infrastructure", message), policy)
        return True


def _time_out(database: Database, job_id: str, settings: Settings) -> bool:
    with database.write() as session:
        at = now(session)
        job = _locked(session, job_id, *_waited_too_long(settings, at))
        if job is None:
            return False
        message = f"No worker took the job within {settings.queue_timeout_seconds:g} seconds."
        error = JobError("queue_timeout", "infrastructure", message).as_json()
        return change(session, job, transition(job.status, Action.QUEUE_TIMEOUT), at, error=error)


def _lease_out(at: datetime) -> tuple[ColumnElement[bool], ...]:
    return Job.status.in_(HELD), Job.lease_until < at


def _waited_too_long(settings: Settings, at: datetime) -> tuple[ColumnElement[bool], ...]:
    limit = at - timedelta(seconds=settings.queue_timeout_seconds or 0)
    queued_at = Job.turn + POINT_SECONDS * Job.priority
    return QUEUED, Job.attempt == 0, queued_at < limit.timestamp()


def _ids(session: Session, *conditions: ColumnElement[bool]) -> list[str]:
    return list(session.scalars(select(Job.id).where(*conditions).limit(BATCH)))


def _locked(session: Session, job_id: str, *conditions: ColumnElement[bool]) -> Job | None:
    query = select(Job).where(Job.id == job_id, *conditions).with_for_update(skip_locked=True)
    return session.scalars(query).one_or_none()


def _due(session: Session, at: datetime) -> frozenset[str]:
    return frozenset(session.scalars(_unheard(), {"at": at, "heard": at - UNHEARD}))


@cache
def _unheard() -> Select[str]:
    """The queues that have a job which was due for so long that somebody should have heard."""
    waits = (
        QUEUED,
        Job.updated_at <= bindparam("heard", type_=Moment),
        is_due(bindparam("at", type_=Moment)),
    )
    heads = first_of_each_line(QUEUES, waits)
    return select(Job.queue).join(heads, heads.c.id == Job.id).distinct()
