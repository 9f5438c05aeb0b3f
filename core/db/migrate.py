"""Bringing a database to the newest schema."""

from importlib.resources import files
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import make_url


def alembic_config(url: str) -> Config:
    """Alembic's configuration for a database, reading the migrations of the package `migrations`."""
    config = Config(str(files("migrations") / "alembic.ini"))
    config.attributes["url"] = url
    return config


def migrate(url: str) -> None:
    """Apply every missing migration, if any; several processes may do so at once."""
    if (path := make_url(url).database) and url.startswith("sqlite:"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    command.upgrade(alembic_config(url), "head")
