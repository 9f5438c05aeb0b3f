"""The same key gives the same answer and the effect once, also when many ask at the same moment."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from core.clock import now
from core.db import Database
from core.errors import DatabaseUnavailable, IdempotencyInFlight, IdempotencyMismatch
from core.jobs import idempotency
from core.jobs.idempotency import Replay, Request
from core.jobs.tables import IdempotencyKey, Job
from tests.support.ledger import make_dataset, make_job, make_model, make_owner

CALLS = 30


def request(owner_id: str, *, fingerprint: str = "f" * 64, route: str = "/v1/jobs") -> Request:
    return Request(owner_id, "key-1", "POST", route, fingerprint)


def answer(database: Database, asked: Request) -> Replay | None:
    with database.write() as session:
        replay = idempotency.begin(session, asked, hours=24)
        if replay is None:
            idempotency.complete(session, asked, status=202, response={"id": "job_1"})
    return replay


@pytest.fixture
def owner(database: Database) -> str:
    with database.write() as session:
        return make_owner(session)


def test_the_second_request_gets_the_first_answer(database: Database, owner: str) -> None:
    assert answer(database, request(owner)) is None
    assert answer(database, request(owner)) == Replay(202, {"id": "job_1"})


def test_keys_belong_to_their_owner(database: Database, owner: str) -> None:
    assert answer(database, request(owner)) is None
    with database.write() as session:
        other = make_owner(session)
    assert answer(database, request(other)) is None


@pytest.mark.parametrize("change", [{"fingerprint": "0" * 64}, {"route": "/v1/models"}])
def test_another_request_with_the_key_is_refused(
    database: Database, owner: str, change: dict[str, str]
) -> None:
    answer(database, request(owner))
    with pytest.raises(IdempotencyMismatch):
        answer(database, request(owner, **change))


def test_a_request_that_failed_leaves_no_key(database: Database, owner: str) -> None:
    def fail() -> None:
        with database.write() as session:
            assert idempotency.begin(session, request(owner), hours=24) is None
            raise KeyError("the request is not valid")

    with pytest.raises(KeyError):
        fail()
    assert answer(database, request(owner)) is None


def test_an_expired_key_is_free_again(database: Database, owner: str) -> None:
    answer(database, request(owner))
    with database.write() as session:
        session.execute(update(IdempotencyKey).values(expires_at=now(session) - timedelta(seconds=1)))
    assert answer(database, request(owner, fingerprint="1" * 64)) is None


def test_an_answer_without_a_reserved_key_is_a_mistake(database: Database, owner: str) -> None:
    with pytest.raises(LookupError), database.write() as session:
        idempotency.complete(session, request(owner), status=202, response={})


def test_a_key_without_an_answer_is_in_flight(database: Database, owner: str) -> None:
    with database.write() as session:
        idempotency.begin(session, request(owner), hours=24)
    with pytest.raises(IdempotencyInFlight):
        answer(database, request(owner))


def test_a_key_that_another_transaction_holds_is_in_flight(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 0.2)
    database = Database(postgres_url)
    with database.write() as session:
        owner = make_owner(session)
    with database.write() as first:
        idempotency.begin(first, request(owner), hours=24)
        with pytest.raises(IdempotencyInFlight):
            answer(database, request(owner))
        idempotency.complete(first, request(owner), status=202, response={})
    assert answer(database, request(owner)) == Replay(202, {})
    database.dispose()


def test_a_database_that_ends_meanwhile_is_no_request_in_flight(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end(session: Session, statement: object) -> bool:
        return bool(session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())")))

    monkeypatch.setattr(idempotency, "_is_new", end)
    database = Database(postgres_url)
    with database.write() as session:
        owner = make_owner(session)
    with pytest.raises(DatabaseUnavailable):
        answer(database, request(owner))
    database.dispose()


def test_many_creates_with_one_key_make_one_job(database: Database, owner: str) -> None:
    with database.write() as session:
        model, dataset = make_model(session, owner), make_dataset(session, owner)
    barrier = threading.Barrier(CALLS)

    def create(_: int) -> str:
        barrier.wait()
        with database.write() as session:
            replay = idempotency.begin(session, request(owner), hours=24)
            if replay is not None:
                return str(replay.response["id"])
            job = make_job(session, owner, model_id=model, dataset_id=dataset)
            idempotency.complete(session, request(owner), status=202, response={"id": job.id}, job_id=job.id)
            return job.id

    with ThreadPoolExecutor(CALLS) as pool:
        ids = set(pool.map(create, range(CALLS)))
    with database.read() as session:
        assert session.scalars(select(func.count()).select_from(Job)).one() == 1
    assert len(ids) == 1
