"""Pausing and resuming over HTTP, and what a request may say of who runs it."""

import pytest

from core.jobs import leases
from core.workers.repository import WorkerRecord, beat
from tests.app.conftest import Service, problem


def test_a_waiting_job_is_paused_and_resumed_at_once(service: Service) -> None:
    urls = service.job()["urls"]
    for _ in range(2):
        reply = service.client.post(urls["pause"])
        assert (reply.status_code, reply.json()["status"]) == (200, "paused")
        assert reply.json()["queue_position"] is None
    for _ in range(2):
        reply = service.client.post(urls["resume"])
        assert (reply.status_code, reply.json()["status"]) == (200, "queued")
        assert reply.json()["queue_position"] == 1
        assert int(reply.headers["retry-after"]) > 0


def test_a_running_job_is_paused_by_its_worker(service: Service) -> None:
    urls = service.job()["urls"]
    claim = service.claim()
    for _ in range(2):
        reply = service.client.post(urls["pause"])
        assert (reply.status_code, reply.json()["status"]) == (202, "pausing")
    with service.services.database.write() as session:
        leases.release(session, claim.token, "preempted")
    assert service.client.post(urls["pause"]).status_code == 200
    assert service.client.get("/v1/jobs", params={"status": "paused"}).json()["data"][0]["urls"] == urls
    problem(service.client.delete(urls["self"]), 409, "not_terminal")
    assert service.client.post(urls["cancel"]).json()["status"] == "canceled"


def test_a_pause_that_is_taken_back_rings_for_nobody(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = service.job()["urls"]
    service.claim()
    service.client.post(urls["pause"])
    rung: list[str] = []
    monkeypatch.setattr(service.services.doorbell, "ring", rung.append)
    assert service.client.post(urls["resume"]).json()["status"] == "running"
    assert rung == []


@pytest.mark.parametrize("action", ["pause", "resume"])
def test_what_is_over_or_on_its_way_there_is_too_late(service: Service, action: str) -> None:
    urls = service.job()["urls"]
    claim = service.claim()
    service.client.post(urls["cancel"])
    problem(service.client.post(urls[action]), 409, "too_late")
    with service.services.database.write() as session:
        leases.confirm_cancel(session, claim.token)
    problem(service.client.post(urls[action]), 409, "too_late")


def test_a_job_says_for_which_worker_it_waits(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    job = service.job(device="cuda", gpu_memory_gib=40)
    assert (job["gpu_memory_gib"], job["waiting_for"]) == (40, "a worker with a GPU of at least 40 GiB")
    assert job["estimated_start_at"] is None
    with service.services.database.write() as session:
        beat(session, WorkerRecord("one", "gpu", 1, ["0"], 79.6))
    monkeypatch.setattr(service.services.forecaster, "_refresh_seconds", 0.0)
    shown = service.client.get(job["urls"]["self"])
    assert (shown.json()["waiting_for"], shown.json()["queue_position"]) == (None, 1)
    assert shown.json()["estimated_start_at"] is not None


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"gpu_memory_gib": 40}, "/gpu_memory_gib"),
        ({"gpu_memory_gib": 40, "device": "cpu"}, "/gpu_memory_gib"),
        ({"gpu_memory_gib": 0, "device": "cuda"}, "/gpu_memory_gib"),
        ({"priority": 101}, "/priority"),
        ({"priority": 0.5}, "/priority"),
    ],
)
def test_needs_that_make_no_sense_are_refused(
    service: Service, fields: dict[str, object], pointer: str
) -> None:
    reply = service.client.post("/v1/jobs", json=service.request() | fields)
    problem(reply, 422, "invalid_request", pointer)


def test_the_time_a_job_held_its_devices_is_shown(service: Service) -> None:
    job = service.job()
    service.finish(service.claim(), {})
    assert service.client.get(job["urls"]["self"]).json()["device_seconds"] > 0
