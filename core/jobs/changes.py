"""The one way in which a job's state is written: conditional, counted, and with an event."""

from datetime import datetime
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from core.db.base import Json
from core.db.writes import rows_changed
from core.jobs.events import NewEvent, append
from core.jobs.shares import charge
from core.jobs.states import HELD, TERMINAL, Status
from core.jobs.tables import Job


def change(
    session: Session, job: Job, status: Status, at: datetime, *, event: Json | None = None, **values: Any
) -> bool:
    """Move `job` to `status`, if it is still in the state and attempt that were read; says whether it was.

    Writes a `status` event with the data of `event` added, and reads the row again. The end of an attempt counts
    the time it took, and takes its lease.
    """
    if job.status in HELD and status not in HELD:
        values |= charge(session, job, at) | {"charged_at": None, "lease_until": None}
    if status in TERMINAL:
        values |= {"finished_at": at, "next_attempt_at": None}
    changed = write(session, job, at, status=status, **values)
    if changed and status != job.status:
        append(
            session,
            job.id,
            [NewEvent("status", {"status": status, "attempt": job.attempt, **(event or {})})],
            at,
        )
    session.refresh(job)
    return changed


def write(session: Session, job: Job, at: datetime, **values: Any) -> bool:
    """Write to the job's row if its state and attempt are still those that were read; says whether."""
    statement = (
        update(Job)
        .where(Job.id == job.id, Job.status == job.status, Job.attempt == job.attempt)
        .values(version=Job.version + 1, updated_at=at, **values)
    )
    return rows_changed(session, statement) == 1
