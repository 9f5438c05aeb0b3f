"""The thread that sends: what is due arrives, also when a sender dies in the middle."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from sqlalchemy import select, update

from core.clock import now
from core.db import Database
from core.settings import Settings
from core.webhooks import repository
from core.webhooks.courier import Courier
from core.webhooks.guard import Guard
from core.webhooks.messages import JOB_STATES
from core.webhooks.sender import Sender
from core.webhooks.tables import DeliveryStatus, WebhookDelivery
from tests.support.ledger import make_job, make_owner
from tests.support.receiver import Receiver, serve

ROOT = Path(__file__).parents[3]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        poll_seconds=0.02,
        webhook_allow_http=True,
        webhook_allow_networks="127.0.0.0/8",
        webhook_retry_seconds=0.01,
    )


def courier(database: Database, settings: Settings) -> Courier:
    return Courier(database, settings, Sender(Guard.from_settings(settings)))


def test_the_thread_outlives_an_error_that_nobody_expects(
    sqlite_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    database, again = Database(sqlite_url), threading.Event()
    sender = courier(database, settings)

    def fail() -> int:
        if caplog.records:
            again.set()
        raise RuntimeError("something nobody thought of")

    monkeypatch.setattr(sender, "deliver", fail)
    with working(sender):
        assert again.wait(20)
    assert "something nobody thought of" in caplog.text
    database.dispose()


@contextmanager
def working(*couriers: Courier) -> Iterator[None]:
    """Their threads run for the block."""
    for each in couriers:
        each.start()
    try:
        yield
    finally:
        for each in couriers:
            each.stop()


def subscribe(database: Database, receiver: Receiver) -> tuple[str, str]:
    """The ids of an owner and their webhook."""
    with database.write() as session:
        owner = make_owner(session)
        return owner, repository.create(session, owner, receiver.url, JOB_STATES, "").id


def statuses(database: Database) -> set[DeliveryStatus]:
    with database.read() as session:
        return set(session.scalars(select(WebhookDelivery.status)))


def test_the_thread_delivers_in_order_and_tries_again(
    local: Database, settings: Settings, receiver: Receiver
) -> None:
    owner, _ = subscribe(local, receiver)
    receiver.status = 503
    with working(courier(local, settings)):
        with local.write() as session:
            made = [make_job(session, owner).id for _ in range(3)]
        _until(lambda: len(receiver.received) >= 2)
        receiver.status = 200
        _until(lambda: statuses(local) == {DeliveryStatus.DELIVERED})
    told = [json.loads(each.body)["data"]["job"]["id"] for each in receiver.received]
    assert set(told) == set(made)
    assert len(told) > 3


def test_two_couriers_send_every_message_once(
    database: Database, settings: Settings, receiver: Receiver
) -> None:
    owner, _ = subscribe(database, receiver)
    with database.write() as session:
        for _ in range(10):
            make_job(session, owner)
    with working(courier(database, settings), courier(database, settings)):
        _until(lambda: statuses(database) == {DeliveryStatus.DELIVERED})
    assert len(receiver.ids) == len(set(receiver.ids)) == 10


@pytest.fixture
def local(sqlite_url: str) -> Iterator[Database]:
    """An empty database on this machine."""
    database = Database(sqlite_url)
    yield database
    database.dispose()


@pytest.fixture
def slow() -> Iterator[Receiver]:
    """A receiver that does not answer before the test is over."""
    over = threading.Event()
    for receiver in serve():
        receiver.answer = lambda handler: over.wait(4)
        yield receiver
        over.set()


def test_a_slow_receiver_keeps_nobody_waiting(
    local: Database, settings: Settings, receiver: Receiver, slow: Receiver
) -> None:
    kept, waiting = subscribe(local, slow), subscribe(local, receiver)
    with local.write() as session:
        repository.ping(session, *kept)
    with working(courier(local, settings)):
        _until(lambda: bool(slow.received))
        with local.write() as session:
            repository.ping(session, *waiting)
        _until(lambda: statuses(local) == {DeliveryStatus.PENDING, DeliveryStatus.DELIVERED})
    assert len(slow.received) == len(receiver.received) == 1


@pytest.fixture
def sending(sqlite_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a courier."""
    program = (
        "from core.settings import Settings; from core.db import Database; from core.webhooks.courier import Courier\n"
        "from core.webhooks.guard import Guard; from core.webhooks.sender import Sender\n"
        f"settings = Settings(database_url={sqlite_url!r}, webhook_allow_http=True,"
        " webhook_allow_networks='127.0.0.0/8')\n"
        "Courier(Database(settings.database_url), settings, Sender(Guard.from_settings(settings))).deliver()"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    yield process
    process.kill()
    process.wait()


def test_a_sender_killed_before_it_could_write_sends_again_under_the_same_id(
    local: Database, tmp_path: Path, receiver: Receiver, request: pytest.FixtureRequest
) -> None:
    owner, hook = subscribe(local, receiver)
    with local.write() as session:
        delivery = repository.ping(session, owner, hook)
    process: list[subprocess.Popen[bytes]] = []

    def kill(handler: BaseHTTPRequestHandler) -> None:
        os.kill(process[0].pid, signal.SIGKILL)

    receiver.answer = kill
    process.append(request.getfixturevalue("sending"))
    assert process[0].wait(60) == -signal.SIGKILL
    receiver.answer = None
    settings = Settings(data_dir=tmp_path, webhook_allow_http=True, webhook_allow_networks="127.0.0.0/8")
    second = courier(local, settings)
    assert second.deliver() == 0  # it may still be alive
    with local.write() as session:
        session.execute(update(WebhookDelivery).values(claimed_until=now(session) - timedelta(seconds=1)))
    assert second.deliver() == 1
    assert receiver.ids == [delivery.id, delivery.id]
    assert receiver.received[0].body == receiver.received[1].body
    assert statuses(local) == {DeliveryStatus.DELIVERED}


def test_the_thread_outlives_a_database_that_is_away(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database("sqlite:////nowhere/at/all.db")
    with working(courier(database, settings)):
        _until(lambda: len(caplog.records) >= 2)
    database.dispose()
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def _until(true: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
