"""The database: SQLite on one machine, PostgreSQL for many; one code for both."""

from core.db.database import Database
from core.db.engine import make_engine
from core.db.migrate import migrate

__all__ = ["Database", "make_engine", "migrate"]
