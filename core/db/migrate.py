"""Bringing a database to the newest schema."""

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from core.db.database import Database

if TYPE_CHECKING:
    from alembic.config import Config


def alembic_config(url: str) -> "Config":
    """Alembic's configuration for a database, reading the migrations of the package `migrations`."""
    from alembic.config import Config

    config = Config(str(files("migrations") / "alembic.ini"))
    config.attributes["url"] = url
    return config


def migrate(url: str) -> None:
    """Apply every missing migration, if any; several processes may do so at once."""
    from alembic import command

    if (path := make_url(url).database) and url.startswith("sqlite:"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    command.upgrade(alembic_config(url), "head")


def is_behind(url: str) -> bool:
    """Whether a database lacks migrations of this code; one that a newer version migrated does not.

    Raises DatabaseUnavailable.
    """
    from alembic.script import ScriptDirectory

    if url.startswith("sqlite:") and not Path(make_url(url).database or "").is_file():
        return True  # connecting would make an empty one
    database = Database(url)
    try:
        with database.read() as session:
            has, wants = revisions(session)
    finally:
        database.dispose()
    known = {script.revision for script in ScriptDirectory.from_config(alembic_config(url)).walk_revisions()}
    return has is None or (has != wants and has in known)


def revisions(session: Session) -> tuple[str | None, str | None]:
    """The revision of a database's schema, None before the first migration, and the one that this code wants."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    has = MigrationContext.configure(session.connection()).get_current_revision()
    return has, ScriptDirectory.from_config(alembic_config("sqlite://")).get_current_head()
