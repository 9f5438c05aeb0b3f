"""The commands that copy a service to a folder and back: on its database and store, so where the service runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from cli.console import out
from core.artifacts.configured import configured_store
from core.artifacts.store import Store
from core.backup import Copied
from core.backup import restore as restore_from
from core.backup import save as save_to
from core.db import Database
from core.settings import settings_from_env

Folder = Annotated[Path, typer.Argument(help="Folder of the backup.", file_okay=False)]


def backup(folder: Folder) -> None:
    """Copy database and store into a folder, while the service runs; repeated, only what is new is copied."""
    with _service() as (database, store):
        _say("saved", save_to(database, store, folder))


def restore(folder: Folder) -> None:
    """Bring a backup into an empty service, checked by its hashes; jobs that were running are queued again."""
    with _service() as (database, store):
        _say("restored", restore_from(folder, database, store))


@contextmanager
def _service() -> Iterator[tuple[Database, Store]]:
    settings = settings_from_env()
    database = Database(settings.database_url)
    try:
        yield database, configured_store(settings)
    finally:
        database.dispose()


def _say(done: str, copied: Copied) -> None:
    line = f"{done} {copied.rows} rows and {copied.objects} objects"
    again = (
        f"; {copied.requeued} jobs that were running were taken from their workers" if copied.requeued else ""
    )
    out.print(line + again, highlight=False, soft_wrap=True)
