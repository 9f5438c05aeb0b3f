"""A backup while the service runs: one moment of the database, and every object that it names."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from core.artifacts.local import LocalStore
from core.artifacts.store import Store
from core.backup.rows import copy_rows, named_objects
from core.db import Database, migrate
from core.db.migrate import revisions
from core.errors import LedgerError, NotFound

LEDGER = "prunery.db"
"""The rows, as SQLite, whatever the service's database is. Together with `store` it is a data folder."""
STORE = "store"
_TRIES = 3


class BackupFailed(LedgerError):
    """The backup is not whole, or cannot be restored here."""

    code = "backup_failed"


@dataclass(frozen=True)
class Copied:
    """What a backup or a restore copied; `requeued` jobs were running when the backup was made."""

    rows: int
    objects: int
    requeued: int = 0


def save(database: Database, store: Store, folder: Path) -> Copied:
    """Write a backup into `folder`; objects that it holds from an earlier backup are not copied again.

    The rows are read first, then the objects: these never change, and whatever rows name is there. An object
    that was deleted in between is no longer named by a newer look, so the rows are read again. The rows get
    their name in `folder` last: where they are, the backup is whole. Raises BackupFailed, StorageFull.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    copies = LocalStore(folder / STORE)
    with TemporaryDirectory(prefix=".unfinished-", dir=folder) as drafts:
        for number in range(_TRIES):
            draft = Path(drafts) / f"{number}.db"
            rows, names = _save_rows(database, draft)
            wanted = (sha256 for sha256 in sorted(names) if not copies.exists(sha256))
            missing = [sha256 for sha256 in wanted if not copy_object(store, copies, sha256)]
            if not missing:
                draft.replace(folder / LEDGER)
                return Copied(rows, len(names))
    raise BackupFailed(f"{len(missing)} objects that rows name are not in the store, such as {missing[0]}.")


def copy_object(source: Store, target: Store, sha256: str) -> bool:
    """Copy an object; False when the source has none. Raises BackupFailed when it is damaged."""
    try:
        with source.open(sha256) as file:
            stored = target.put(iter(lambda: file.read(1 << 20), b""))
    except NotFound:
        return False
    if stored.sha256 != sha256:
        target.delete(stored.sha256)
        raise BackupFailed(f"The object {sha256} is damaged: its bytes have the hash {stored.sha256}.")
    return True


def _save_rows(database: Database, path: Path) -> tuple[int, set[str]]:
    """One moment of the database as a SQLite file; the number of rows, and the objects that they name."""
    migrate(f"sqlite:///{path}")
    path.chmod(0o600)
    copy = Database(f"sqlite:///{path}")
    try:
        with database.snapshot() as source, copy.write() as target:
            has, wants = revisions(source)
            if has != wants:
                raise BackupFailed(
                    f"The database has schema {has}, this code {wants}: run `prunery migrate`."
                )
            return copy_rows(source, target), named_objects(source)
    finally:
        copy.dispose()
