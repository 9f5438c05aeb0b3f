"""The migrations make exactly the tables of the code, on both databases, forth and back."""

import secrets
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy import (
    JSON,
    Column,
    Date,
    DateTime,
    Enum,
    MetaData,
    Table,
    insert,
    inspect,
    make_url,
    select,
    text,
)

from core.db import make_engine, migrate
from core.db.migrate import alembic_config, is_behind
from core.tables import METADATA

ROOT = Path(__file__).parents[2]


@pytest.fixture
def empty_postgres(postgres_server: str) -> Iterator[str]:
    name = sql.Identifier(f"prunery_migrations_{secrets.token_hex(6)}")
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        url = make_url(postgres_server).set(
            drivername="postgresql+psycopg", database=name.as_string().strip('"')
        )
        yield url.render_as_string(hide_password=False)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new' / 'prunery.db'}"
    return str(request.getfixturevalue("empty_postgres"))


def tables(url: str) -> set[str]:
    engine = make_engine(url)
    names = set(inspect(engine).get_table_names())
    engine.dispose()
    return names - {"alembic_version"}


def test_up_down_and_up_again_leave_what_the_code_says(empty_url: str) -> None:
    migrate(empty_url)
    assert tables(empty_url) == set(METADATA.tables)
    command.downgrade(alembic_config(empty_url), "base")
    assert tables(empty_url) == set()
    migrate(empty_url)
    migrate(empty_url)
    command.check(alembic_config(empty_url))


REVISIONS = [
    script.revision for script in ScriptDirectory.from_config(alembic_config("sqlite://")).walk_revisions()
]


@pytest.mark.parametrize("old", [revision for revision in REVISIONS if revision != REVISIONS[0]])
def test_old_code_works_on_the_new_schema(empty_url: str, old: str) -> None:
    """What an older version wrote is read after the upgrade; what it still writes and reads then, it can."""
    migrate(empty_url)
    command.downgrade(alembic_config(empty_url), old)
    engine, tables_of_old = make_engine(empty_url), MetaData()
    tables_of_old.reflect(engine)
    with engine.begin() as connection:
        for table in each(tables_of_old):
            connection.execute(insert(table).values(row(table, "before")))
    engine.dispose()
    migrate(empty_url)
    with engine.begin() as connection:
        for table in each(tables_of_old):
            connection.execute(insert(table).values(row(table, "after")))
            assert len(connection.execute(select(table)).all()) == 2
            assert len(connection.execute(select(METADATA.tables[table.name])).all()) == 2
    engine.dispose()


def test_keys_keep_their_rights_and_going_back_gives_none(empty_url: str) -> None:
    """Older keys may do everything after 0004; keys that may not are revoked before older code reads them."""
    config, engine = alembic_config(empty_url), make_engine(empty_url)
    migrate(empty_url)
    command.downgrade(config, "0003")
    with engine.begin() as connection:
        insert_row = "INSERT INTO {} VALUES ({})"
        connection.execute(text(insert_row.format("owners (id, name, created_at)", "'o', 'o', '2026-01-01'")))
        columns = "api_keys (id, owner_id, name, prefix, sha256, created_at)"
        for key in ("a", "b", "c"):
            connection.execute(
                text(insert_row.format(columns, f"'{key}', 'o', 'n', 'p', '{key}', '2026-01-01'"))
            )
    command.upgrade(config, "0004")
    with engine.begin() as connection:
        assert set(connection.scalars(text("SELECT scopes FROM api_keys"))) == {"admin"}
        connection.execute(text("UPDATE api_keys SET scopes = 'jobs:read' WHERE id = 'b'"))
        connection.execute(text("UPDATE api_keys SET expires_at = '2099-01-01' WHERE id = 'c'"))
    command.downgrade(config, "0003")
    with engine.begin() as connection:
        valid = connection.scalars(text("SELECT id FROM api_keys WHERE revoked_at IS NULL"))
        assert list(valid) == ["a"]
    engine.dispose()


def each(metadata: MetaData) -> list[Table]:
    return [table for table in metadata.sorted_tables if table.name != "alembic_version"]


def row(table: Table, word: str) -> dict[str, Any]:
    """A value for every column; all texts are the same, so that they refer to each other."""
    return {
        column.name: value(column, METADATA.tables[table.name].c.get(column.name), word) for column in table.c
    }


def value(column: Column[Any], now: Column[Any] | None, word: str) -> Any:
    if now is not None and isinstance(now.type, Enum):
        return now.type.enums[0]
    if isinstance(column.type, JSON):
        return {}
    if isinstance(column.type, DateTime):
        return datetime(2026, 1, 1, tzinfo=UTC)
    if isinstance(column.type, Date):
        return date(2026, 1, 1)
    return word if column.type.python_type is str else 1


def test_several_processes_may_migrate_at_once(empty_url: str) -> None:
    migrate_once = f"from core.db import migrate; migrate({empty_url!r})"
    running = [subprocess.Popen([sys.executable, "-c", migrate_once], cwd=ROOT) for _ in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    assert tables(empty_url) == set(METADATA.tables)


def test_a_database_is_behind_until_it_is_migrated_and_not_when_a_newer_version_did(empty_url: str) -> None:
    assert is_behind(empty_url)
    migrate(empty_url)
    assert not is_behind(empty_url)
    command.downgrade(alembic_config(empty_url), "-1")
    assert is_behind(empty_url)
    engine = make_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    assert not is_behind(empty_url)


def test_there_is_one_head() -> None:
    assert len(ScriptDirectory.from_config(alembic_config("sqlite://")).get_heads()) == 1


def test_a_new_migration_can_be_written(tmp_path: Path, sqlite_url: str) -> None:
    config = alembic_config(sqlite_url)
    config.set_main_option("version_locations", str(tmp_path))
    command.stamp(config, "base", purge=True)
    script = command.revision(
        config, message="add nothing", rev_id="9999", head="base", version_path=str(tmp_path)
    )
    assert script is not None
    written = tmp_path / "9999_add_nothing.py"
    compile(written.read_text("utf-8"), str(written), "exec")
    assert "lock_timeout" in (ROOT / "migrations" / "env.py").read_text("utf-8")
