"""The same Idempotency-Key: one effect, one answer."""

import threading
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from core.accounts.repository import create_key, create_owner
from core.settings import Settings
from tests.app.conftest import MakeSettings, Service, problem
from tests.support.server import running

KEY = {"Idempotency-Key": "3f1c7f0e-5f3b"}


def test_a_repeated_request_gets_the_stored_answer(service: Service) -> None:
    body = service.request()
    first = service.client.post("/v1/jobs", json=body, headers=KEY)
    service.claim()
    second = service.client.post("/v1/jobs", json=dict(reversed(body.items())), headers=KEY)
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json() == first.json()
    assert second.headers["location"] == first.headers["location"]
    assert second.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    assert service.count_jobs() == 1


def test_another_request_under_the_key_is_refused(service: Service) -> None:
    body = service.request()
    service.client.post("/v1/jobs", json=body, headers=KEY)
    other = service.client.post("/v1/jobs", json=body | {"seed": 1}, headers=KEY)
    problem(other, 422, "idempotency_mismatch")
    assert service.count_jobs() == 1


def test_refusals_are_not_stored(service: Service) -> None:
    body = service.request()
    problem(service.client.post("/v1/jobs", json=body | {"seed": -1}, headers=KEY), 422, "invalid_request")
    problem(service.client.post("/v1/jobs", json=body | {"method": "x"}, headers=KEY), 422, "invalid_spec")
    assert service.client.post("/v1/jobs", json=body, headers=KEY).status_code == 202


def test_checking_only_uses_no_key(service: Service) -> None:
    body = service.request()
    service.client.post("/v1/jobs", params={"validate_only": True}, json=body, headers=KEY)
    assert service.client.post("/v1/jobs", json=body | {"seed": 1}, headers=KEY).status_code == 202


def test_keys_of_different_owners_are_different(service: Service) -> None:
    _, other = service.owner("second")
    assert service.client.post("/v1/jobs", json=service.request(), headers=KEY).status_code == 202
    assert (
        service.client.post("/v1/jobs", json=service.request(other), headers=other | KEY).status_code == 202
    )


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
def test_keys_that_are_none(service: Service, key: str) -> None:
    reply = service.client.post("/v1/jobs", json=service.request(), headers={"Idempotency-Key": key})
    problem(reply, 422, "invalid_request", "header:Idempotency-Key")


@pytest.fixture
def parallel(database_url: str, make_settings: MakeSettings) -> Iterator[tuple[Settings, Service]]:
    """The application on SQLite and on PostgreSQL."""
    settings = make_settings(database_url=database_url)
    app = create_app(settings)
    with app.state.services.database.write() as session:
        owner = create_owner(session, "first")
        _, key = create_key(session, owner.id, "key")
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        yield settings, Service(app, client, owner.id, key)


def test_many_at_once_make_one_job(parallel: tuple[Settings, Service]) -> None:
    settings, service = parallel
    body, replies = service.request(), list[httpx.Response]()
    headers = KEY | {"Authorization": f"Bearer {service.key}"}

    def send(base: str) -> None:
        with httpx.Client(timeout=60) as client:
            for _ in range(5):
                replies.append(client.post(f"{base}/v1/jobs", json=body, headers=headers))

    with running(create_app(settings)) as base:
        threads = [threading.Thread(target=send, args=(base,)) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    counts = Counter(reply.status_code for reply in replies)
    assert counts[202] >= 1
    assert set(counts) <= {202, 409}
    assert len(replies) == 100
    assert len({reply.json()["id"] for reply in replies if reply.status_code == 202}) == 1
    assert service.count_jobs() == 1
