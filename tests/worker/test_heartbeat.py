"""The thread that keeps a lease: what it writes, when, and what it does while the database is away."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from core.errors import DatabaseUnavailable
from core.jobs import repository
from core.jobs.attempts import Token
from core.jobs.leases import claim
from core.jobs.states import Status
from pruning.events import Event
from tests.support.workers import FlickeringDatabase, Workplace, until
from worker import heartbeat as heartbeat_module
from worker.heartbeat import Heartbeat


@pytest.fixture
def database(place: Workplace) -> Iterator[FlickeringDatabase]:
    database = FlickeringDatabase(place.settings.database_url)
    yield database
    database.dispose()


@pytest.fixture
def token(place: Workplace) -> Token:
    place.submit()
    with place.database.write() as session:
        claimed = claim(session, worker_id="w", queues=("cpu",), lease_seconds=3)
    assert claimed is not None
    return claimed.token


def progress(fraction: float) -> Event:
    return Event("progress", {"phase": "pruning", "fraction": fraction, "loss": fraction})


def test_many_progress_events_become_one_row_a_second(
    place: Workplace, database: FlickeringDatabase, token: Token
) -> None:
    heartbeat = Heartbeat(database, token, place.settings, claimed_at=time.monotonic())
    for step in range(100):
        heartbeat.tell(progress(step / 100))
        time.sleep(0.005)
    until(lambda: place.job(token.job_id).progress == 0.99, 5, lambda: "the last progress")
    assert heartbeat.close() == []
    assert len(place.events(token.job_id, "progress")) <= 2
    job = place.job(token.job_id)
    assert (job.phase, job.metrics) == ("pruning", {"loss": 0.99})


def test_the_lease_is_kept_without_news(place: Workplace, database: FlickeringDatabase, token: Token) -> None:
    before = place.job(token.job_id).lease_until
    heartbeat = Heartbeat(database, token, place.settings, claimed_at=time.monotonic())
    time.sleep(1.2)
    assert heartbeat.age < 0.8
    heartbeat.close()
    after = place.job(token.job_id).lease_until
    assert before is not None
    assert after is not None
    assert after > before


def test_news_waits_for_the_database_in_order(
    place: Workplace, database: FlickeringDatabase, token: Token
) -> None:
    heartbeat = Heartbeat(database, token, place.settings, claimed_at=time.monotonic())
    database.away = True
    for step in range(3):
        heartbeat.tell(Event("metric", {"name": "loss", "value": 1.0, "step": step}))
        time.sleep(0.3)
    age = heartbeat.age
    assert age > 0.5
    database.away = False
    until(lambda: heartbeat.age < age, 5, lambda: "a renewal")
    assert heartbeat.close() == []
    assert [data["step"] for data in place.events(token.job_id, "metric")] == [0, 1, 2]


def test_what_could_not_be_written_is_given_back(
    place: Workplace, database: FlickeringDatabase, token: Token
) -> None:
    heartbeat = Heartbeat(database, token, place.settings, claimed_at=time.monotonic())
    database.away = True
    heartbeat.tell(Event("warning", {"code": "a"}))
    heartbeat.tell(progress(0.5))
    assert [event.type for event in heartbeat.close()] == ["warning", "progress"]


def test_news_that_breaks_a_renewal_costs_itself_and_not_the_lease(
    place: Workplace,
    database: FlickeringDatabase,
    token: Token,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    renew, broken = heartbeat_module.renew, [True]

    def sometimes(*arguments: Any, **news: Any) -> Any:
        if broken and broken.pop():
            raise RuntimeError("something nobody thought of")
        return renew(*arguments, **news)

    monkeypatch.setattr(heartbeat_module, "renew", sometimes)
    heartbeat = Heartbeat(database, token, place.settings, claimed_at=time.monotonic())
    heartbeat.tell(progress(0.5))
    until(lambda: "could not be renewed" in caplog.text, 10, lambda: "the error")
    age = heartbeat.age
    until(lambda: heartbeat.age < age, 10, lambda: "a renewal")
    heartbeat.tell(progress(0.7))
    until(lambda: place.job(token.job_id).progress == 0.7, 10, lambda: "the next news")
    assert heartbeat.close() == []
    assert [data["fraction"] for data in place.events(token.job_id, "progress")] == [0.7]
    assert f"{token.job_id}: the lease could not be renewed" in caplog.text
    assert "something nobody thought of" in caplog.text


def test_closing_waits_for_no_pause(
    place: Workplace, database: FlickeringDatabase, token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The renewal under way fails when it is being closed already: there is nothing to wait for."""
    begun, closing = threading.Event(), threading.Event()

    def fail(*_: Any, **__: Any) -> Any:
        begun.set()
        assert closing.wait(10)
        raise DatabaseUnavailable("away")

    monkeypatch.setattr(heartbeat_module, "renew", fail)
    heartbeat = Heartbeat(database, token, place.settings, claimed_at=time.monotonic())
    heartbeat.tell(progress(0.5))
    assert begun.wait(10)
    threading.Timer(0.2, closing.set).start()
    assert [event.type for event in heartbeat.close()] == ["progress"]


def test_a_lost_lease_is_noticed(place: Workplace, database: FlickeringDatabase, token: Token) -> None:
    stranger = Token(token.job_id, token.attempt, "somebody else")
    heartbeat = Heartbeat(database, stranger, place.settings, claimed_at=time.monotonic())
    until(lambda: heartbeat.lost, 5, lambda: "the loss")
    heartbeat.close()
    assert place.job(token.job_id).status == Status.RUNNING


def test_a_pause_is_heard_and_so_is_its_end(
    place: Workplace, database: FlickeringDatabase, token: Token
) -> None:
    heartbeat = Heartbeat(database, token, place.settings, claimed_at=time.monotonic())
    for act, heard in ((repository.pause, True), (repository.resume, False)):
        with place.database.write() as session:
            act(session, place.owner_id, token.job_id)
        until(lambda expected=heard: heartbeat.pause_requested is expected, 5, lambda: "the wish")
    assert not heartbeat.cancel_requested
    heartbeat.close()
