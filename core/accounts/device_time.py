"""Seconds times devices that an owner's attempts had, by UTC day: written while they run and when they end."""

from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from core.accounts.tables import DeviceUse
from core.jobs.tables import Job


def count(session: Session, owner_id: str, begin: datetime, until: datetime, devices: int) -> None:
    """Count the time from `begin` to `until` on each of its days."""
    while begin < until:
        end = min(until, next_day(begin))
        _add(session, owner_id, day_of(begin), (end - begin).total_seconds() * devices)
        begin = end


def used_today(session: Session, owner_id: str, at: datetime) -> int:
    """Device seconds since midnight (UTC), those of attempts that still run included."""
    today = day_of(at)
    over = session.get(DeviceUse, (owner_id, today), populate_existing=True)
    seconds = 0.0 if over is None else over.seconds
    midnight = datetime.combine(today, time(), UTC)
    held = select(Job).where(Job.owner_id == owner_id, Job.charged_at.is_not(None))
    for job in session.scalars(held):
        begin = max(midnight, job.charged_at or at)
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
