"""Seconds times devices that an owner's attempts had, by UTC day: written when an attempt ends."""

from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from core.accounts.tables import DeviceUse
from core.jobs.states import HELD
from core.jobs.tables import Job


def charge(session: Session, job: Job, at: datetime) -> None:
    """Count the attempt that ends now, as far as its lease went, on each of its days."""
    if job.claimed_at is None:
        return
    begin, until = job.claimed_at, min(at, job.lease_until or at)
    while begin < until:
        end = min(until, next_day(begin))
        _add(session, job.owner_id, day_of(begin), (end - begin).total_seconds() * devices(job))
        begin = end


def used_today(session: Session, owner_id: str, at: datetime) -> int:
    """Device seconds since midnight (UTC), those of attempts that still run included."""
    today = day_of(at)
    over = session.get(DeviceUse, (owner_id, today), populate_existing=True)
    seconds = 0.0 if over is None else over.seconds
    midnight = datetime.combine(today, time(), UTC)
    held = select(Job).where(Job.owner_id == owner_id, Job.status.in_(HELD), Job.claimed_at.is_not(None))
    for job in session.scalars(held):
        begin = max(midnight, job.claimed_at or at)
        seconds += max(0.0, (at - begin).total_seconds()) * devices(job)
    return int(seconds)


def devices(job: Job) -> int:
    """How many devices an attempt of the job occupies."""
    return int(job.spec.get("devices", 1))


def day_of(at: datetime) -> date:
    """The UTC day of a moment."""
    return at.astimezone(UTC).date()


def next_day(at: datetime) -> datetime:
    """The midnight (UTC) that ends the day of a moment."""
    return datetime.combine(day_of(at) + timedelta(days=1), time(), UTC)


def _add(session: Session, owner_id: str, day: date, seconds: float) -> None:
    row = {"owner_id": owner_id, "day": day, "seconds": seconds}
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    added = dialect.insert(DeviceUse).values(row)
    total = {"seconds": DeviceUse.seconds + added.excluded.seconds}
    session.execute(
        added.on_conflict_do_update(index_elements=["owner_id", "day"], set_=total),
        execution_options={"synchronize_session": False},
    )
