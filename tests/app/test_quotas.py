"""What goes beyond an owner's limits is refused with the figures, and leaves nothing."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from core.accounts.quotas import set_limits
from core.accounts.repository import create_key, create_owner, get_owner
from core.accounts.tables import DeviceUse
from core.clock import now
from tests.app.conftest import MakeSettings, Service, problem
from tests.support.uploads import model_files

Limited = Callable[..., Service]


@pytest.fixture
def limited(make_settings: MakeSettings) -> Iterator[Limited]:
    """The application with limits."""
    with ExitStack() as stack:

        def make(**limits: Any) -> Service:
            app = create_app(make_settings(**limits))
            with app.state.services.database.write() as session:
                owner = create_owner(session, "first")
                _, key = create_key(session, owner.id, "key")
            client = stack.enter_context(TestClient(app, headers={"Authorization": f"Bearer {key}"}))
            return Service(app, client, owner.id, key)

        yield make


def figures(document: dict[str, Any]) -> tuple[str, int, int]:
    return document["quota"], document["limit"], document["used"]


def test_a_job_too_many_in_the_queue(limited: Limited) -> None:
    service = limited(max_queued_jobs=1)
    body, key = service.request(), {"Idempotency-Key": "again"}
    job_id = service.client.post("/v1/jobs", json=body).json()["id"]
    refused = problem(service.client.post("/v1/jobs", json=body, headers=key), 429, "quota_exceeded")
    assert figures(refused) == ("queued_jobs", 1, 1)
    assert refused["frees_at"] is None
    assert service.client.post("/v1/jobs?validate_only=true", json=body).status_code == 200
    _, other = service.owner("second")
    assert service.job(other)["status"] == "queued"
    service.client.post(f"/v1/jobs/{job_id}/cancel")
    assert service.client.post("/v1/jobs", json=body, headers=key).status_code == 202


def test_an_owner_may_have_other_limits(limited: Limited) -> None:
    service = limited(max_queued_jobs=0)
    body = service.request()
    problem(service.client.post("/v1/jobs", json=body), 429, "quota_exceeded")
    with service.services.database.write() as session:
        set_limits(get_owner(session, service.owner_id), {"queued_jobs": 1})
    assert service.client.post("/v1/jobs", json=body).status_code == 202
    assert service.client.get("/v1/account").json()["quotas"]["queued_jobs"] == {"used": 1, "limit": 1}


def test_more_bytes_than_may_be_stored(limited: Limited) -> None:
    files = model_files()
    service = limited(max_stored_bytes=sum(map(len, files.values())) + 10)
    model_id = service.upload("models", files)
    url = f"/v1/models/{model_id}/files/tokenizer.json"
    refused = problem(service.client.put(url, content=bytes(11)), 429, "quota_exceeded")
    assert refused["quota"] == "stored_bytes"
    assert refused["used"] == refused["limit"] + 1
    assert {file["name"] for file in service.client.get(f"/v1/models/{model_id}").json()["files"]} == set(
        files
    )
    assert service.client.put(url, content=bytes(10)).status_code == 204
    # Now that nothing fits, a body is refused before it is read.
    problem(service.client.put(url, content=bytes(10)), 429, "quota_exceeded")
    service.client.delete(f"/v1/models/{model_id}")
    assert service.client.get("/v1/account").json()["quotas"]["stored_bytes"]["used"] == 0


def test_device_time_of_a_day(limited: Limited) -> None:
    service = limited(max_device_seconds=100)
    body = service.request()
    service.client.post("/v1/jobs", json=body)
    service.finish(service.claim(), {"report.json": b"{}"})
    with service.services.database.write() as session:
        at = now(session)
        used = session.get_one(DeviceUse, (service.owner_id, at.date()))
        assert used.seconds < 10
        used.seconds = 100
    refused = problem(service.client.post("/v1/jobs", json=body), 429, "quota_exceeded")
    assert figures(refused) == ("device_seconds", 100, 100)
    midnight = (at + timedelta(days=1)).date()
    assert refused["frees_at"] == f"{midnight}T00:00:00.000Z"
