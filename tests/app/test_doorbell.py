"""The bell never holds a request up, whatever the broker does."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from fastapi.testclient import TestClient
from sqlalchemy import update

from app.doorbell import Doorbell
from app.main import create_app
from core.accounts.repository import create_key, create_owner
from core.clock import now
from core.jobs.tables import Job
from core.settings import Settings
from core.workers.repository import WorkerRecord, beat
from tests.app.conftest import MakeSettings, Service
from tests.support.ledger import make_job
from tests.support.workers import until


@contextmanager
def started(settings: Settings) -> Iterator[Service]:
    """The application, running."""
    app = create_app(settings)
    with app.state.services.database.write() as session:
        owner = create_owner(session, "first")
        _, key = create_key(session, owner.id, "key")
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        yield Service(app, client, owner.id, key)


@pytest.fixture
def deaf(make_settings: MakeSettings) -> Iterator[Service]:
    """The application with a broker that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with started(make_settings(broker_url=f"redis://127.0.0.1:{port}/0")) as service:
            yield service


@pytest.fixture
def dead(make_settings: MakeSettings) -> Iterator[Service]:
    """The application with a broker that is not there."""
    with started(make_settings(broker_url="redis://127.0.0.1:1/0")) as service:
        yield service


@pytest.mark.parametrize("broker", ["dead", "deaf"])
def test_a_job_is_accepted_while_the_broker_is_away(broker: str, request: pytest.FixtureRequest) -> None:
    service: Service = request.getfixturevalue(broker)
    body = service.request()
    for _ in range(5):
        began = time.monotonic()
        assert service.client.post("/v1/jobs", json=body).status_code == 202
        assert time.monotonic() - began < 2
    wait_for(lambda: service.client.get("/readyz").json()["broker"] == "unreachable")
    assert service.count_jobs() == 5


def test_a_ring_arrives_over_redis(redis_url: str, make_settings: MakeSettings) -> None:
    with started(make_settings(broker_url=redis_url)) as service:
        service.job()
        with redis.Redis.from_url(redis_url) as client:
            wait_for(lambda: client.llen("cpu") == 1)
            message = json.loads(client.lrange("cpu", 0, 0)[0])
        assert message["headers"]["task"] == "prunery.doorbell"
        assert message["headers"]["expires"]
        wait_for(lambda: service.client.get("/readyz").json()["broker"] == "ok")


def test_a_ring_arrives_in_files_and_a_request_for_cuda_rings_for_gpus(
    service: Service, tmp_path: Path
) -> None:
    folder = service.services.settings.data_dir / "broker" / "messages"
    service.job(device="cuda")
    wait_for(lambda: len(list(folder.iterdir())) == 1)
    assert ".gpu.msg" in next(folder.iterdir()).name


def test_the_reconciler_rings_again(make_settings: MakeSettings) -> None:
    with started(make_settings(poll_seconds=0.1)) as service:
        folder = service.services.settings.data_dir / "broker" / "messages"
        with service.services.database.write() as session:
            beat(session, WorkerRecord("one", "cpu", 1, []))
        service.job()
        wait_for(lambda: len(list(folder.iterdir())) >= 2, seconds=20)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_rings_are_repeated_only_where_a_worker_can_hear_them(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that no living worker can run may wait for days."""
    rung: list[str] = []
    monkeypatch.setattr(Doorbell, "ring", lambda self, queue: rung.append(queue))
    app = create_app(make_settings(poll_seconds=0.05))
    with app.state.services.database.write() as session:
        beat(session, WorkerRecord("one", "cpu", 1, []))
        for queue in ("gpu", "cpu"):
            make_job(session, queue=queue)
        session.execute(update(Job).values(updated_at=now(session) - timedelta(seconds=5)))
    with TestClient(app):
        until(lambda: len(rung) > 2, 10, lambda: "rings")
    assert set(rung) == {"cpu"}
