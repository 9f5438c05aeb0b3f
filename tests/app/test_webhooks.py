"""Webhooks as an owner uses them: made, told of jobs, looked up, sent again; and how they are refused."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from standardwebhooks import Webhook

from app import publish_openapi
from app.main import create_app
from core.accounts.repository import create_key, create_owner
from core.jobs import repository as jobs
from core.webhooks.courier import Courier
from core.webhooks.messages import EVENT_TYPES, JOB_STATES
from core.webhooks.sender import Sender
from tests.app.conftest import MakeSettings, Service, problem
from tests.support.ledger import make_job
from tests.support.receiver import Receiver

PUBLIC = "https://93.184.216.34/hook"
UNKNOWN = "whk_" + "0" * 26


@pytest.fixture
def service(make_settings: MakeSettings) -> Iterator[Service]:
    """The application, which may reach loopback."""
    allowed = {"webhook_allow_http": True, "webhook_allow_networks": "127.0.0.0/8"}
    app = create_app(make_settings(**allowed))
    with app.state.services.database.write() as session:
        owner = create_owner(session, "first")
        _, key = create_key(session, owner.id, "key")
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        yield Service(app, client, owner.id, key)


def make(service: Service, url: str, **fields: Any) -> dict[str, Any]:
    reply = service.client.post("/v1/webhooks", json={"url": url} | fields)
    assert reply.status_code == 201, reply.text
    made = reply.json()
    assert reply.headers["location"].endswith(f"/v1/webhooks/{made['id']}")
    return dict(made)


def deliver(service: Service) -> int:
    """Send what is due; the application's own thread looks once a minute here."""
    services = service.services
    return Courier(services.database, services.settings, Sender(services.guard)).deliver()


def test_a_webhook_is_told_of_a_job_and_its_message_can_be_sent_again(
    service: Service, receiver: Receiver
) -> None:
    hook = make(service, receiver.url, events=["job.canceled"], description="team chat")
    with service.services.database.write() as session:
        job_id = make_job(session, service.owner_id).id
        jobs.cancel(session, service.owner_id, job_id)
    assert deliver(service) == 1
    (got,) = receiver.received
    told = Webhook(hook["secret"]).verify(got.body, dict(got.headers))
    assert (told["type"], told["data"]["job"]["id"]) == ("job.canceled", job_id)

    here = f"/v1/webhooks/{hook['id']}/deliveries"
    (shown,) = service.client.get(here, params={"status": "delivered"}).json()["data"]
    assert (shown["id"], shown["job_id"]) == (got.headers["webhook-id"], job_id)
    assert (shown["attempts"], shown["response_status"], shown["next_attempt_at"]) == (1, 204, None)
    assert service.client.get(here, params={"status": "failed"}).json()["data"] == []
    assert service.client.get(f"{here}/{shown['id']}").json()["payload"] == json.loads(got.body)

    again = service.client.post(f"{here}/{shown['id']}/redeliver")
    assert (again.status_code, again.json()["status"]) == (202, "pending")
    assert "prunery_webhook_deliveries_pending 1.0\n" in service.client.get("/metrics").text
    assert deliver(service) == 1
    assert receiver.ids == [shown["id"]] * 2


def test_a_secret_is_shown_when_it_is_made_and_never_again(service: Service, receiver: Receiver) -> None:
    first = make(service, receiver.url)
    assert first["secret"].startswith("whsec_")
    here = f"/v1/webhooks/{first['id']}"
    for reply in (service.client.get(here), service.client.get("/v1/webhooks")):
        assert "secret" not in reply.text
    second = service.client.post(f"{here}/rotate-secret").json()["secret"]
    assert service.client.post(f"{here}/ping").json()["type"] == "webhook.ping"
    deliver(service)
    for secret in (first["secret"], second):
        got = receiver.received[-1]
        assert Webhook(secret).verify(got.body, dict(got.headers))["data"] == {"webhook": first["id"]}
    third = service.client.post(f"{here}/rotate-secret", json={"overlap_hours": 0}).json()["secret"]
    service.client.post(f"{here}/ping")
    deliver(service)
    assert receiver.received[-1].headers["webhook-signature"].count("v1,") == 1
    Webhook(third).verify(receiver.received[-1].body, dict(receiver.received[-1].headers))


def test_a_webhook_is_changed_disabled_and_deleted(service: Service) -> None:
    made = make(service, PUBLIC, description="old")
    assert made["events"] == list(JOB_STATES)
    here = f"/v1/webhooks/{made['id']}"
    events = ["job.failed", "job.queued", "job.failed"]
    changed = service.client.patch(here, json={"events": events, "url": PUBLIC + "2"}).json()
    assert (changed["events"], changed["url"]) == (["job.queued", "job.failed"], PUBLIC + "2")
    assert (changed["description"], changed["enabled"]) == ("old", True)
    disabled = service.client.patch(here, json={"enabled": False, "description": ""}).json()
    assert (disabled["enabled"], disabled["disabled_reason"], disabled["description"]) == (False, "owner", "")
    problem(service.client.post(f"{here}/ping"), 409, "disabled")
    assert service.client.patch(here, json={"enabled": True}).json()["disabled_reason"] is None
    assert service.client.delete(here).status_code == 204
    problem(service.client.get(here), 404, "not_found")
    problem(service.client.get(f"{here}/deliveries/dlv_{'0' * 26}"), 404, "not_found")


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({}, "invalid_request", "/url"),
    ({"url": 1}, "invalid_request", "/url"),
    ({"url": "https://" + "a" * 2048}, "invalid_request", "/url"),
    ({"url": "ftp://hooks.example/"}, "unsafe_url", "/url"),
    ({"url": "https://user:secret@hooks.example/"}, "unsafe_url", "/url"),
    ({"url": "https://169.254.169.254/latest/meta-data"}, "unsafe_url", "/url"),
    ({"url": "https://[::1]/"}, "unsafe_url", "/url"),
    ({"url": PUBLIC, "events": []}, "invalid_request", "/events"),
    ({"url": PUBLIC, "events": ["job.progress"]}, "invalid_request", "/events"),
    ({"url": PUBLIC, "events": ["job.failed"] * 99}, "invalid_request", "/events"),
    ({"url": PUBLIC, "secret": "mine"}, "invalid_request", "/secret"),
    ({"url": PUBLIC, "description": "x" * 256}, "invalid_request", "/description"),
]


def test_what_is_refused_and_where(service: Service) -> None:
    for body, code, pointer in REFUSED:
        problem(service.client.post("/v1/webhooks", json=body), 422, code, pointer)
    assert service.client.get("/v1/webhooks").json()["data"] == []
    here = f"/v1/webhooks/{make(service, PUBLIC)['id']}"
    for body, code, pointer in REFUSED[1:]:
        problem(service.client.patch(here, json=body), 422, code, pointer)
    assert service.client.get(here).json()["url"] == PUBLIC


def test_conflicts_and_further_refusals(service: Service) -> None:
    first, second = make(service, PUBLIC), make(service, PUBLIC + "2")
    problem(service.client.post("/v1/webhooks", json={"url": PUBLIC}), 409, "exists", "/url")
    there = f"/v1/webhooks/{second['id']}"
    problem(service.client.patch(there, json={"url": PUBLIC}), 409, "exists", "/url")
    problem(service.client.patch(f"/v1/webhooks/{UNKNOWN}", json={"url": "https://[::1]/"}), 404, "not_found")
    rotated = service.client.post(f"{there}/rotate-secret", json={"overlap_hours": 1000})
    problem(rotated, 422, "invalid_request", "/overlap_hours")
    problem(service.client.post("/v1/webhooks", content=b"x"), 415, "unsupported_media_type")
    for number in range(3, 21):
        make(service, f"{PUBLIC}{number}")
    problem(service.client.post("/v1/webhooks", json={"url": PUBLIC + "0"}), 409, "too_many")
    page = service.client.get("/v1/webhooks", params={"limit": 2}).json()
    assert page["has_more"]
    assert first["id"] not in [hook["id"] for hook in page["data"]]


def test_the_document_names_what_can_be_subscribed_to() -> None:
    document = json.loads(publish_openapi.PATH.read_text("utf-8"))
    events = document["components"]["schemas"]["NewWebhook"]["properties"]["events"]
    assert events["items"]["enum"] == list(EVENT_TYPES)
    assert events["default"] == list(JOB_STATES)
