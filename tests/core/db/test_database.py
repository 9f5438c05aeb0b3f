"""Sessions, transactions, and what they say when the database is gone."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from core.accounts.tables import ApiKey, Owner
from core.clock import now, rfc3339
from core.db import Database, make_engine
from core.db.engine import to_json
from core.errors import DatabaseUnavailable
from tests.support.ledger import make_job, make_owner


def test_a_block_commits_and_an_exception_rolls_back(database: Database) -> None:
    with database.write() as session:
        kept = make_owner(session)

    def broken() -> None:
        with database.write() as session:
            make_owner(session)
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError):
        broken()
    with database.read() as session:
        assert list(session.scalars(select(Owner.id))) == [kept]


def test_rows_stay_readable_after_their_session(database: Database) -> None:
    with database.write() as session:
        job = make_job(session)
    assert job.spec == {"target_ratio": 0.5}
    assert job.created_at.tzinfo is UTC


def test_moments_are_utc_whatever_they_were_given_in(database: Database) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    with database.write() as session:
        owner = make_owner(session)
        session.execute(update(Owner).values(created_at=moment.astimezone(None)))
    with database.read() as session:
        session.expire_all()
        stored = session.scalars(select(Owner.created_at).where(Owner.id == owner)).one()
    assert stored == moment
    assert rfc3339(stored) == "2026-01-02T03:04:05.678Z"


def test_the_clock_goes_on_within_a_transaction(database: Database) -> None:
    with database.read() as session:
        first = now(session)
        second = now(session)
    assert first <= second
    assert abs(datetime.now(UTC) - first) < timedelta(seconds=30)


def test_many_writers_lose_no_update(database: Database) -> None:
    with database.write() as session:
        job = make_job(session)
    barrier = threading.Barrier(6)

    def work(_: int) -> None:
        barrier.wait()
        for _ in range(10):
            with database.write() as session:
                read = session.scalars(
                    select(type(job)).where(type(job).id == job.id).with_for_update()
                ).one()
                read.priority += 1

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    with database.read() as session:
        assert session.scalars(select(type(job).priority)).one() == 60


def test_broken_references_are_refused(database: Database) -> None:
    def orphan() -> None:
        with database.write() as session:
            key = ApiKey(
                id="key_1", owner_id="own_none", name="", prefix="", sha256="", created_at=now(session)
            )
            session.add(key)

    with pytest.raises(IntegrityError):
        orphan()


def test_sqlite_is_set_up_for_several_processes(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    expected = {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1, "busy_timeout": 30_000}
    with database.read() as session:
        found = {name: session.execute(text(f"PRAGMA {name}")).scalar_one() for name in expected}
    database.dispose()
    assert found == expected


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all.db", "postgresql+psycopg://nobody@127.0.0.1:9/none"]
)
def test_a_database_that_does_not_answer_is_unavailable(url: str) -> None:
    database = Database(url)
    with pytest.raises(DatabaseUnavailable):
        database.check()
    with pytest.raises(DatabaseUnavailable), database.write() as session:
        make_owner(session)
    database.dispose()


def test_a_database_that_answers_passes_the_check(database: Database) -> None:
    database.check()


def test_a_connection_that_breaks_midway_is_unavailable(postgres_url: str) -> None:
    database = Database(postgres_url)
    with pytest.raises(DatabaseUnavailable), database.write() as session:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    database.check()
    database.dispose()


def test_an_error_counts_as_unavailable_only_where_it_broke_the_connection(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    for broke, expected in ((True, DatabaseUnavailable), (False, DBAPIError)):
        error = DBAPIError("SELECT 1", {}, Exception("odd"), connection_invalidated=broke)
        with pytest.raises(expected), database.read():
            raise error
    database.dispose()


def test_other_databases_are_refused() -> None:
    with pytest.raises(ValueError, match="mysql"):
        make_engine("mysql://root@127.0.0.1/x")


def test_json_has_no_nan() -> None:
    assert (
        to_json({"a": [float("nan"), 1.5, (float("-inf"),)], "b": "x"})
        == '{"a": [null, 1.5, [null]], "b": "x"}'
    )
