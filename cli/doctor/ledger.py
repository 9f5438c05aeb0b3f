"""Whether the database answers, has this code's schema, takes writes, and agrees about the time."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from cli.doctor.finding import Finding, last_words
from core.accounts.tables import Owner
from core.clock import now
from core.db import Database
from core.db.migrate import revisions
from core.errors import LedgerError
from core.ids import new_id
from core.settings import Settings

_APART_SECONDS = 5.0


def check_database(settings: Settings) -> Iterator[Finding]:
    """Reach it, then compare schema and clock, then write a row and take it back."""
    url = make_url(settings.database_url)
    path = url.database or ""
    if url.get_backend_name() == "sqlite" and not path.startswith("file:") and not Path(path).is_file():
        # Connecting would make an empty one.
        yield Finding("database", "fail", f"there is no {path}", "run `prunery migrate`, or `prunery serve`")
        return
    try:
        database = Database(settings.database_url)
    except ValueError as error:
        yield Finding("database", "fail", str(error), "set PRUNERY_DATABASE_URL")
        return
    try:
        database.check()
        with database.read() as session:
            yield Finding("database", "ok", f"{url.render_as_string(hide_password=True)} answers")
            behind = _schema(session)
            yield behind
            yield _clock(session, settings)
        if behind.status == "ok":
            yield _write(database)
    except (LedgerError, DBAPIError) as error:
        remedy = f"start the database, or set PRUNERY_DATABASE_URL: it names {url.host or path}"
        yield Finding("database", "fail", last_words(error), remedy)
    finally:
        database.dispose()


def _schema(session: Session) -> Finding:
    has, wants = revisions(session)
    if has == wants:
        return Finding("schema", "ok", f"at {has}, the newest")
    remedy = "run `prunery migrate`; if it does not know the revision, a newer Prunery was here: install that"
    return Finding("schema", "fail", f"at {has or 'no revision'}, this code wants {wants}", remedy)


def _clock(session: Session, settings: Settings) -> Finding:
    apart = abs((now(session) - datetime.now(UTC)).total_seconds())
    detail = f"{apart:.1f} s from the database's"
    remedy = "set the clock of this machine or of the database, by NTP for instance"
    # Leases use the database's clock alone. Sweeps compare dates of files with this machine's.
    if apart > settings.sweep_after_hours * 3600 / 2:
        return Finding("clock", "fail", f"{detail}: sweeps would take new files for old ones", remedy)
    if apart > _APART_SECONDS:
        return Finding("clock", "warn", f"{detail}: logs do not agree with jobs", remedy)
    return Finding("clock", "ok", detail)


def _write(database: Database) -> Finding:
    try:
        with database.write() as session:
            owner = new_id("own")
            session.execute(insert(Owner).values(id=owner, name=owner, created_at=now(session)))
            session.rollback()
    except (LedgerError, DBAPIError) as error:
        remedy = "see that the user may write, the disk has room and the server is no read-only replica"
        return Finding("database writes", "fail", last_words(error), remedy)
    return Finding("database writes", "ok", "a row was written and taken back")
