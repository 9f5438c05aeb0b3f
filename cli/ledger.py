"""The database of the service for commands that work on it directly, so where the service runs."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from core.accounts.repository import find_owner
from core.accounts.tables import Owner
from core.db import Database
from core.errors import NotFound
from core.settings import Settings


@contextmanager
def ledger(settings: Settings) -> Iterator[Database]:
    """The database that the settings name."""
    database = Database(settings.database_url)
    try:
        yield database
    finally:
        database.dispose()


def owner_named(session: Session, name: str) -> Owner:
    """The owner of that name; raises NotFound that names the remedy."""
    owner = find_owner(session, name)
    if owner is None:
        raise NotFound(f"there is no owner {name!r}; `prunery keys create --owner` makes one")
    return owner
