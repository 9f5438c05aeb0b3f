"""Which job a worker should take next."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session

from core.jobs.states import HELD, Status
from core.jobs.tables import Job


def lock_best(session: Session, queues: Sequence[str], at: datetime, waiting: Select[str]) -> Job | None:
    """The best job that is due: by priority, then whose owner has fewest running, then the oldest.

    `waiting` are the owners whose jobs may not begin now. The job's row is locked. Rows that another transaction
    has locked are skipped, where the database can do that.
    """
    held = (
        select(Job.owner_id, func.count().label("jobs"))
        .where(Job.status.in_(HELD))
        .group_by(Job.owner_id)
        .subquery()
    )
    running = func.coalesce(held.c.jobs, 0)
    query = (
        select(Job.id)
        .outerjoin(held, held.c.owner_id == Job.owner_id)
        .where(
            Job.status == Status.QUEUED,
            Job.queue.in_(queues),
            or_(Job.next_attempt_at.is_(None), Job.next_attempt_at <= at),
            Job.owner_id.not_in(waiting),
        )
        .order_by(Job.priority.desc(), running, Job.created_at, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True, of=Job)
    )
    job_id = session.scalars(query).one_or_none()
    return None if job_id is None else session.get_one(Job, job_id, populate_existing=True)
