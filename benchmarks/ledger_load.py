"""How fast the ledger is when it is full: claims from many queued jobs, outlooks, and lists of many jobs.

python -m benchmarks.ledger_load --database postgresql://postgres@127.0.0.1:5432/postgres --owners 10

Makes a database of its own on that server and drops it at the end. Times are those of whole transactions, with their
commits, asked one after the other by one process: claims beside at most `--running` running jobs, each claimed job
being finished later, outside of what is measured. `SELECT 1` in a transaction tells how busy the machine is.
"""

import argparse
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from sqlalchemy import make_url, text

from core.accounts.repository import create_owner
from core.clock import now
from core.db import Database, migrate
from core.jobs import fairness, leases, repository
from core.jobs.attempts import Token
from core.jobs.forecast import Forecaster
from core.jobs.reconcile import reconcile
from core.jobs.states import Status
from core.jobs.tables import Job
from core.settings import Settings

MODEL = "mdl_" + "0" * 26
# What differs between rows; all else is as in the first. Owners, priorities and ages are mixed.
VARIED = {
    "id": "'job_' || lpad(n::text, 26, '0')",
    "owner_id": "(ARRAY(SELECT id FROM owners ORDER BY id))[1 + n % CAST(:owners AS bigint)]",
    "status": "CAST(:status AS text)",
    "priority": "(n * 7919) % 5",
    "turn": "turn - (n * 104729) % 100000 - 60 * ((n * 7919) % 5)",
    "finished_at": "CASE WHEN CAST(:status AS text) = 'queued' THEN NULL ELSE created_at END",
}


def main() -> None:
    """Print one line per question."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--database", default="postgresql://postgres@127.0.0.1:5432/postgres")
    parser.add_argument("--queued", type=int, default=100_000)
    parser.add_argument("--ended", type=int, default=1_000_000, help="jobs of one owner that are over")
    parser.add_argument("--owners", type=int, default=10)
    parser.add_argument("--running", type=int, default=32)
    parser.add_argument("--repeat", type=int, default=300)
    options = parser.parse_args()
    with _database(options.database) as database:
        print("| what | p50 ms | p95 ms | p99 ms |\n|---|---|---|---|")
        _first_rows(database, options.owners)
        _fill(database, Status.QUEUED, 1, options.queued, options.owners)
        _claims(
            database, options.repeat, options.running, f"{options.queued:,} queued, {options.owners} owners"
        )
        _look_at_queued(database, options.repeat)
        if options.ended:
            _fill(database, Status.SUCCEEDED, options.queued + 1, options.ended, 1)
            _lists(database, options.repeat, options.ended)


@contextmanager
def _database(server: str) -> Iterator[Database]:
    name = sql.Identifier(f"prunery_load_{secrets.token_hex(4)}")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        plain = name.as_string().strip('"')
        url = make_url(server).set(drivername="postgresql+psycopg", database=plain)
        database = Database(url.render_as_string(hide_password=False))
        try:
            migrate(url.render_as_string(hide_password=False))
            yield database
        finally:
            database.dispose()
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def _first_rows(database: Database, owners: int) -> None:
    with database.write() as session:
        ids = sorted(create_owner(session, f"owner-{number}").id for number in range(owners))
        at = now(session)
        session.add(
            Job(
                id="job_first",
                owner_id=ids[0],
                status=Status.CANCELED,
                queue="cpu",
                request={"model": MODEL, "dataset": "dst"},
                spec={"seed": 0},
                model_id=MODEL,
                dataset_id="dst",
                turn=at.timestamp(),
                run_timeout_seconds=60.0,
                created_at=at,
                updated_at=at,
            )
        )


def _fill(database: Database, status: Status, first: int, count: int, owners: int) -> None:
    names = [column.name for column in Job.__table__.columns]
    values = ", ".join(VARIED.get(name, name) for name in names)
    rows = f"SELECT {values} FROM jobs, generate_series(CAST(:first AS bigint), :last) AS n WHERE id = 'job_first'"
    parameters = {"status": status.value, "owners": owners, "first": first, "last": first + count - 1}
    with database.write() as session:
        session.execute(text(f"INSERT INTO jobs ({', '.join(names)}) {rows}"), parameters)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def _claims(database: Database, repeat: int, running: int, what: str) -> None:
    held: list[Token] = []

    def claim() -> None:
        with database.write() as session:
            found = leases.claim(session, worker_id="w", queues=("cpu",), lease_seconds=3600)
        assert found is not None
        held.append(found.token)

    def finish() -> None:
        if len(held) > running:
            with database.write() as session:
                leases.finish(session, held.pop(0), artifacts=[], report={})

    def nothing() -> None:
        with database.read() as session:
            session.execute(text("SELECT 1"))

    def find() -> None:
        with database.write() as session:
            assert fairness.lock_best(session, ("cpu",), at) is not None

    with database.read() as session:
        at = now(session)
    _time("`SELECT 1`", repeat, nothing)
    _time(f"find the job to claim, {what}", repeat, find)
    _time(f"claim, {what}", repeat, claim, between=finish)


def _look_at_queued(database: Database, repeat: int) -> None:
    with database.read() as session:
        owner_id = session.scalars(text("SELECT min(owner_id) FROM jobs WHERE status = 'queued'")).one()
        page = repository.list_jobs(session, owner_id, status=Status.QUEUED, limit=100).data
    forecaster, cold = Forecaster(), Forecaster(refresh_seconds=0.0)
    with database.read() as session:
        _time("outlook of a job", repeat, lambda: forecaster.outlook(session, page[-1]))
        _time("outlook of a page of 100", repeat // 10, lambda: forecaster.outlooks(session, page))
        _time("outlook, queues read anew", repeat // 10, lambda: cold.outlook(session, page[-1]))
    _time("a pass of the reconciler", repeat // 10, lambda: reconcile(database, Settings()))


def _lists(database: Database, repeat: int, rows: int) -> None:
    with database.read() as session:
        owner_id = session.scalars(text("SELECT owner_id FROM jobs WHERE id = 'job_first'")).one()
        last = session.scalars(text("SELECT max(id) FROM jobs WHERE status = 'succeeded'")).one()
    end = int(last.removeprefix("job_"))
    filters = {"": {}, ", by status": {"status": Status.SUCCEEDED}, ", by model": {"model": MODEL}}
    for name, chosen in filters.items():
        for row in (1, rows // 2, rows - 100):
            cursor = f"job_{end - row + 1:026d}"

            def page(cursor: str = cursor, chosen: dict[str, object] = chosen) -> None:
                with database.read() as session:
                    found = repository.list_jobs(session, owner_id, cursor=cursor, limit=20, **chosen)
                assert len(found.data) == 20

            _time(f"a page of 20 at row {row:,}{name}", repeat, page)


def _time(
    what: str, repeat: int, act: Callable[[], object], between: Callable[[], object] = lambda: None
) -> None:
    took = []
    for _ in range(repeat):
        began = time.perf_counter()
        act()
        took.append(1000 * (time.perf_counter() - began))
        between()
    took.sort()
    at = (took[min(len(took) - 1, int(part * len(took)))] for part in (0.5, 0.95, 0.99))
    print(f"| {what} | " + " | ".join(f"{value:.1f}" for value in at) + " |", flush=True)


if __name__ == "__main__":
    main()
