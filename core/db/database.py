"""Sessions for reading and for writing; one `with` is one transaction."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from core.db.engine import BEGIN, make_engine
from core.errors import DatabaseUnavailable

_READING = {"isolation_level": "AUTOCOMMIT"}, {"isolation_level": "REPEATABLE READ"}
"""Of PostgreSQL, for `read` and for `snapshot`. Its usual transactions let every statement see a moment of its own, as
statements without one do, and cost two more waits."""


class Database:
    """A database by its URL. Objects that a session loaded stay readable after it has ended."""

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        reading, one_moment = _READING if self.engine.dialect.name == "postgresql" else ({}, {})
        self._read = sessionmaker(self.engine.execution_options(**reading), expire_on_commit=False)
        self._snapshot = sessionmaker(self.engine.execution_options(**one_moment), expire_on_commit=False)
        self._write = sessionmaker(
            self.engine.execution_options(**{BEGIN: "IMMEDIATE"}), expire_on_commit=False
        )

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for reading; raises DatabaseUnavailable when the database does not answer."""
        with _translated(), self._read.begin() as session:
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """A session that sees the database as it was at its first read, whatever others write meanwhile.

        Long results can be streamed here. Raises DatabaseUnavailable when the database does not answer.
        """
        with _translated(), self._snapshot.begin() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits at the end of the block, and rolls back when an exception leaves it.

        Never hold one across other input or output: on SQLite it keeps every other writer waiting.
        Raises DatabaseUnavailable when the database does not answer; whether it committed is then unknown.
        """
        with _translated(), self._write.begin() as session:
            yield session

    def check(self) -> None:
        """Ask the database for a sign of life; raises DatabaseUnavailable."""
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def dispose(self) -> None:
        """Close every connection."""
        self.engine.dispose()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeout) as error:
        raise DatabaseUnavailable("The database does not answer.") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise DatabaseUnavailable("The connection to the database broke.") from error
        raise
