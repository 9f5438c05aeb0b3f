"""Which workers there are, as owners see them."""

from datetime import timedelta

from sqlalchemy import update

from core.clock import now
from core.workers.repository import STALE_SECONDS, WorkerRecord, beat, leave
from core.workers.tables import Worker
from tests.app.conftest import Service


def test_a_worker_is_shown_with_its_load_and_its_last_sign_of_life(service: Service) -> None:
    database = service.services.database
    assert service.client.get("/v1/workers").json() == {"data": [], "has_more": False, "next_cursor": None}
    with database.write() as session:
        beat(session, WorkerRecord("test", "gpu", 2, ["0", "1"], 22.49))
    job_id = service.job()["id"]
    service.claim()
    (shown,) = service.client.get("/v1/workers").json()["data"]
    assert shown.pop("started_at") == shown.pop("heartbeat_at")
    assert shown == {
        "id": "test",
        "queues": ["gpu", "gpu-16g", "cpu"],
        "slots": 2,
        "devices": ["0", "1"],
        "gpu_memory_gib": 22.5,
        "running": 1,
        "jobs": [job_id],
        "stale": False,
    }


def test_the_jobs_of_another_owner_are_counted_and_not_named(service: Service) -> None:
    with service.services.database.write() as session:
        beat(session, WorkerRecord("test", "cpu", 1, []))
    service.job()
    service.claim()
    _, other = service.owner("second")
    (shown,) = service.client.get("/v1/workers", headers=other).json()["data"]
    assert (shown["running"], shown["jobs"]) == (1, [])


def test_a_silent_worker_is_stale_until_it_speaks_again_and_gone_when_it_leaves(service: Service) -> None:
    database, record = service.services.database, WorkerRecord("test", "cpu", 1, [])
    with database.write() as session:
        beat(session, record)
        silent = now(session) - timedelta(seconds=STALE_SECONDS + 1)
        session.execute(update(Worker).values(started_at=silent, heartbeat_at=silent))
    (shown,) = service.client.get("/v1/workers").json()["data"]
    assert shown["stale"]
    with database.write() as session:
        beat(session, record)
    (spoke,) = service.client.get("/v1/workers").json()["data"]
    assert not spoke["stale"]
    assert spoke["started_at"] == shown["started_at"] < spoke["heartbeat_at"]
    with database.write() as session:
        leave(session, record.id)
    assert service.client.get("/v1/workers").json()["data"] == []
