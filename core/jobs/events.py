"""What happened to a job, in order, and never more than a set number of rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import Select, delete, func, select, update
from sqlalchemy.orm import Session

from core.db.base import Json
from core.jobs.tables import Job, JobEvent
from core.webhooks.outbox import announce

PROGRESS_EVERY = timedelta(seconds=1)
EXPENDABLE = ("progress", "metric")
"""Types that are thinned out when a job has too many events, in this order; then the oldest go."""


@dataclass(frozen=True)
class NewEvent:
    """An event that is not written yet; `data` is JSON."""

    type: str
    data: Json = field(default_factory=dict)


def append(session: Session, job_id: str, events: Sequence[NewEvent], at: datetime) -> None:
    """Write events under the job's next numbers, and what webhooks will be told of them.

    The caller's transaction holds the job's row already, with what the events say written to it.
    """
    if not events:
        return
    numbered = (
        update(Job)
        .where(Job.id == job_id)
        .values(event_seq=Job.event_seq + len(events))
        .returning(Job.event_seq)
    )
    last = session.scalars(numbered, execution_options={"synchronize_session": False}).one()
    first = last - len(events) + 1
    rows = [
        JobEvent(job_id=job_id, seq=first + i, type=event.type, data=event.data, at=at)
        for i, event in enumerate(events)
    ]
    session.add_all(rows)
    session.flush()
    announce(session, job_id, rows)


def thin_progress(session: Session, job_id: str, events: Sequence[NewEvent], at: datetime) -> list[NewEvent]:
    """Keep only the last progress event, and that only when the one before is a second old; the rest stay."""
    last = max((i for i, event in enumerate(events) if event.type == "progress"), default=None)
    if last is not None:
        before = (
            select(JobEvent.at)
            .where(JobEvent.job_id == job_id, JobEvent.type == "progress")
            .order_by(JobEvent.seq.desc())
            .limit(1)
        )
        previous = session.scalars(before).one_or_none()
        if previous is not None and at - previous < PROGRESS_EVERY:
            last = None
    return [event for i, event in enumerate(events) if event.type != "progress" or i == last]


def enforce_limit(session: Session, job_id: str, limit: int) -> None:
    """Leave at most `limit` events: delete every second progress event, then metric, then the oldest."""
    for kind in EXPENDABLE:
        if _count(session, job_id) <= limit:
            return
        ranked = select(JobEvent.seq, func.row_number().over(order_by=JobEvent.seq).label("rank"))
        ranks = ranked.where(JobEvent.job_id == job_id, JobEvent.type == kind).subquery()
        _delete(session, job_id, select(ranks.c.seq).where(ranks.c.rank % 2 == 1))
    excess = _count(session, job_id) - limit
    if excess > 0:
        _delete(
            session,
            job_id,
            select(JobEvent.seq).where(JobEvent.job_id == job_id).order_by(JobEvent.seq).limit(excess),
        )


def _count(session: Session, job_id: str) -> int:
    return session.scalars(select(func.count()).select_from(JobEvent).where(JobEvent.job_id == job_id)).one()


def _delete(session: Session, job_id: str, numbers: Select[int]) -> None:
    session.execute(
        delete(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq.in_(numbers)),
        execution_options={"synchronize_session": False},
    )
