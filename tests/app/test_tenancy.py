"""Another owner's object does not exist: every route of the OpenAPI document, with a second owner's key."""

import re
from dataclasses import dataclass
from typing import Any

import pytest

from app.main import create_app
from core.settings import Settings
from core.webhooks import repository
from tests.app.conftest import Service, problem
from tests.support.uploads import model_files

OPEN = {"/healthz", "/readyz", "/v1/version", "/v1/signing-keys"}
"""Routes that need no key."""
BODIES: dict[str, bytes] = {"put": b"{}", "patch": b"{}"}
JSON = {"Content-Type": "application/json"}


MAKERS = {
    "plan_job",
    "create_upload",
    "create_webhook",
    "create_model",
    "create_dataset",
    "create_job",
    "create_key",
}
"""Operations that change something and name no object in their path: what they make is the caller's own."""


def operations(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Every method and path."""
    return [(method, path) for path, methods in document["paths"].items() for method in methods]


@dataclass(frozen=True)
class Estate:
    """An object of every kind that one owner has: ids by the names of path parameters, and what nobody else sees."""

    ids: dict[str, str]
    secrets: tuple[str, ...]


@pytest.fixture
def estate(service: Service) -> Estate:
    """What the first owner has; a route about a further kind of object needs one of it here."""
    job_id = service.finished({f"model/{name}": content for name, content in model_files().items()})
    artifact = service.client.get(f"/v1/jobs/{job_id}/artifacts").json()["data"][0]
    model_id, dataset_id = (service.upload(collection, {}) for collection in ("models", "datasets"))
    upload_id = service.declare(model_id, "config.json", b"{}")["id"]
    key_id = service.client.get("/v1/account").json()["key"]["id"]
    ids = {"job_id": job_id, "artifact_id": artifact["id"], "model_id": model_id, "dataset_id": dataset_id}
    webhook_id, delivery_id = webhook(service)
    ids |= {"webhook_id": webhook_id, "delivery_id": delivery_id}
    ids |= {"key_id": key_id, "upload_id": upload_id}
    return Estate(ids, ("bert", artifact["sha256"], service.owner_id))


def test_every_route_hides_what_belongs_to_another(service: Service, estate: Estate) -> None:
    """A route fails here until its path's objects are in the estate, or it is known to make the caller's own."""
    names = {"models": "config.json", "datasets": "train.jsonl"}
    _, other = service.owner("second")

    walked = 0
    for method, path in operations(service.app.openapi()):
        operation = service.app.openapi()["paths"][path][method]
        wanted = set(re.findall(r"{(\w+)}", path)) - {"name", "number"}
        if path in OPEN or operation["operationId"] in MAKERS:
            continue
        if not wanted and "{name}" not in path:
            assert method == "get", f"{path}: whose object does it change?"
            reply = service.client.get(path, headers=other)
            assert reply.status_code == 200
            assert not any(value in reply.text for value in (*estate.ids.values(), service.owner_id))
            continue
        if not wanted:
            assert path == "/v1/methods/{name}"
            continue
        url = path.format(**estate.ids, name=names.get(path.split("/")[2], ""), number=1)
        for headers in (other, other | {"Accept": "text/event-stream"}):
            reply = service.client.request(
                method.upper(), url, headers=headers | JSON, content=BODIES.get(method)
            )
            problem(reply, 404, "not_found")
            assert not any(value in reply.text for value in estate.secrets)
        walked += 1
    assert walked >= 23
    assert service.client.get(f"/v1/jobs/{estate.ids['job_id']}").status_code == 200
    assert service.client.get(f"/v1/keys/{estate.ids['key_id']}").json()["revoked_at"] is None


def webhook(service: Service) -> tuple[str, str]:
    """The ids of a webhook, disabled so that nothing is sent, and of a delivery."""
    with service.services.database.write() as session:
        hook = repository.create(session, service.owner_id, "https://hooks.example/", ["job.queued"], "")
        delivery = repository.ping(session, service.owner_id, hook.id)
        repository.update(session, service.owner_id, hook.id, enabled=False)
    return hook.id, delivery.id


def test_lists_hold_only_what_is_ones_own(service: Service) -> None:
    service.job()
    webhook(service)
    _, other = service.owner("second")
    for collection in ("jobs", "models", "datasets", "webhooks"):
        assert len(service.client.get(f"/v1/{collection}").json()["data"]) == 1
        assert service.client.get(f"/v1/{collection}", headers=other).json()["data"] == []


def test_a_job_cannot_use_what_belongs_to_another(service: Service) -> None:
    mine = service.request()
    first = service.finished({f"model/{name}": content for name, content in model_files().items()})
    _, other = service.owner("second")
    theirs = service.request(other)
    for stolen in ({"model": mine["model"]}, {"dataset": mine["dataset"]}, {"model": {"job": first}}):
        reply = service.client.post("/v1/jobs", json=theirs | stolen, headers=other)
        problem(reply, 404, "not_found")


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer nonsense", "Bearer prn_live_" + "a" * 49, "Basic dXNlcjpwYXNz", "Bearer \xe9"],
)
def test_every_route_needs_a_key(service: Service, header: str) -> None:
    for method, path in operations(service.app.openapi()):
        if path in OPEN:
            continue
        url = re.sub(r"{(\w+)_id}", lambda match: {"job": "job_"}.get(match[1], "mdl_") + "0" * 26, path)
        reply = service.client.request(
            method.upper(),
            url.replace("{name}", "config.json").replace("{number}", "1"),
            headers={"Authorization": header.encode("latin-1")},
        )
        problem(reply, 401, "unauthorized")
        assert reply.headers["www-authenticate"].startswith("Bearer")


def test_the_open_routes_need_none(settings: Settings, service: Service) -> None:
    for path in OPEN:
        assert service.client.get(path, headers={"Authorization": ""}).status_code == 200
    assert create_app(settings).openapi()["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
