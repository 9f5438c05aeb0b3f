"""A backup into an empty service."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from alembic.util import CommandError
from sqlalchemy import select
from sqlalchemy.orm import Session

from core.artifacts.local import LocalStore
from core.artifacts.store import Store
from core.backup.rows import copy_rows, count_rows, named_objects
from core.backup.save import LEDGER, STORE, BackupFailed, Copied, copy_object
from core.clock import now
from core.db import Database, migrate
from core.jobs.changes import change
from core.jobs.states import HELD, Action, transition
from core.jobs.tables import Job


def restore(folder: Path, database: Database, store: Store) -> Copied:
    """Bring a backup, also one of an older schema, into a database without rows and a store.

    Every object is checked against its SHA-256 on the way. The rows come last and in one transaction: what
    breaks before leaves an empty service and unnamed objects. Jobs that were running are queued again, those
    being canceled are canceled: their workers are not of this service. Raises BackupFailed, StorageFull.
    """
    if not (folder / LEDGER).is_file():
        raise BackupFailed(f"{folder} holds no {LEDGER}: it is no backup, or one that was never finished.")
    migrate(database.engine.url.render_as_string(hide_password=False))
    copies = LocalStore(folder / STORE)
    with TemporaryDirectory() as scratch:
        backup = Database(_newest_schema(folder / LEDGER, Path(scratch)))
        try:
            with backup.read() as source:
                _refuse_rows(database)
                names = named_objects(source)
                for sha256 in sorted(names):
                    if not copy_object(copies, store, sha256):
                        raise BackupFailed(f"The backup lacks the object {sha256}.")
                with database.write() as target:
                    if count_rows(target):
                        raise BackupFailed("Somebody wrote to the database meanwhile; nothing was restored.")
                    rows = copy_rows(source, target)
                    return Copied(rows, len(names), _release(target))
        finally:
            backup.dispose()


def _newest_schema(ledger: Path, scratch: Path) -> str:
    """URL of a copy of a backup's rows, so that migrating them leaves the backup as it is."""
    if ledger.with_name(f"{LEDGER}-wal").exists():
        raise BackupFailed(
            f"{ledger.parent} is the data folder of a service, not a backup: use `prunery backup`."
        )
    path = scratch / LEDGER
    shutil.copyfile(ledger, path)
    path.chmod(0o600)
    _refuse_damage(path)
    try:
        migrate(f"sqlite:///{path}")
    except CommandError as error:
        raise BackupFailed(f"{ledger} was made by a newer Prunery: {error}.") from error
    return f"sqlite:///{path}"


def _refuse_damage(path: Path) -> None:
    try:
        with closing(sqlite3.connect(path)) as connection:
            (found,) = connection.execute("PRAGMA quick_check").fetchone()
    except sqlite3.DatabaseError as error:
        found = str(error)
    if found != "ok":
        raise BackupFailed(f"The backup's {LEDGER} is damaged: {found}.")


def _refuse_rows(database: Database) -> None:
    with database.read() as session:
        if found := count_rows(session):
            raise BackupFailed(
                f"The database holds {found} rows; a backup is restored into an empty one only."
            )


def _release(session: Session) -> int:
    """Take every job from the worker that had it; the number of jobs."""
    held = session.scalars(select(Job).where(Job.status.in_(HELD))).all()
    for job in held:
        status = transition(job.status, Action.REQUEUE)
        reason = {"reason": "restored"}
        job.charged_at = None  # the time since the backup is nobody's
        change(session, job, status, now(session), event=reason, worker_id=None)
    return len(held)
