"""How Alembic reaches the database: one transaction, one migrator at a time, on both dialects."""

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection, text

from core.db.base import Moment
from core.db.engine import BEGIN, make_engine
from core.settings import settings_from_env
from core.tables import METADATA

LOCK = 7_240_186_113_902
"""Key of the advisory lock that one migrator holds at a time; any number that nobody else uses."""


def prepare(connection: Connection) -> None:
    """Wait for other migrators, but not for long on a lock that the running service holds."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        connection.execute(text("SET LOCAL lock_timeout = '4s'"))
        connection.execute(text("SET LOCAL statement_timeout = '60s'"))


def render_item(kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    """Write our own column types as what they are in the database: a migration must outlive our classes."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, Moment) else False


def run() -> None:
    """Migrate the database named by the caller, else by the settings."""
    url = context.config.attributes.get("url") or settings_from_env().database_url
    engine = make_engine(url).execution_options(**{BEGIN: "IMMEDIATE"})
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            _prepare_sqlite(connection)
        with connection.begin():
            prepare(connection)
            context.configure(
                connection=connection,
                target_metadata=METADATA,
                render_as_batch=connection.dialect.name == "sqlite",
                compare_type=True,
                render_item=render_item,
            )
            context.run_migrations()
            if engine.dialect.name == "sqlite":
                _check_sqlite(connection)
    engine.dispose()


def _prepare_sqlite(connection: Connection) -> None:
    """What cannot be set within a transaction.

    Foreign keys are off, because a table that is made anew is dropped on the way: what refers to it must stay.
    """
    cursor = connection.connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")  # kept in the file
    cursor.execute("PRAGMA foreign_keys = OFF")  # of this connection only
    cursor.close()


def _check_sqlite(connection: Connection) -> None:
    """Refuse to commit rows that refer to nothing."""
    if broken := connection.execute(text("PRAGMA foreign_key_check")).first():
        raise RuntimeError(f"The migration would leave rows of {broken[0]} that refer to no {broken[2]}.")


run()
