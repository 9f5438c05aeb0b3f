"""One clock for every lease and date: the database's, so that a worker's wrong clock does no harm."""

from datetime import UTC, datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.db.base import Moment


def now(session: Session) -> datetime:
    """The time in UTC. PostgreSQL is asked; SQLite's file lives on one machine, whose clock serves."""
    if session.get_bind().dialect.name == "postgresql":
        # Not now(), which stands still from the start of the transaction, also while it waits for a lock.
        return session.scalars(select(func.clock_timestamp(type_=Moment))).one()
    return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """Write a moment as `2026-08-01T12:00:00.123Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
