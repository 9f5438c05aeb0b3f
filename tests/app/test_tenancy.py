"""Another owner's object does not exist: every route of the OpenAPI document, with a second owner's key."""

import re
from typing import Any

import pytest

from app.main import create_app
from core.settings import Settings
from core.webhooks import repository
from tests.app.conftest import Service, problem
from tests.support.uploads import model_files

OPEN = {"/healthz", "/readyz", "/v1/version"}
"""Routes that need no key."""
BODIES: dict[str, bytes] = {"put": b"{}", "patch": b"{}"}
JSON = {"Content-Type": "application/json"}


def operations(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Every method and path."""
    return [(method, path) for path, methods in document["paths"].items() for method in methods]


def test_every_route_with_an_id_hides_what_belongs_to_another(service: Service) -> None:
    job_id = service.finished({f"model/{name}": content for name, content in model_files().items()})
    artifact = service.client.get(f"/v1/jobs/{job_id}/artifacts").json()["data"][0]
    model_id, dataset_id = (service.upload(collection, {}) for collection in ("models", "datasets"))
    webhook_id, delivery_id = webhook(service)
    ids = {"job_id": job_id, "artifact_id": artifact["id"], "model_id": model_id, "dataset_id": dataset_id}
    ids |= {"webhook_id": webhook_id, "delivery_id": delivery_id}
    names = {"models": "config.json", "datasets": "train.jsonl"}
    _, other = service.owner("second")

    walked = 0
    for method, path in operations(service.app.openapi()):
        wanted = re.findall(r"{(\w+)}", path)
        if not any(name in ids for name in wanted):
            continue
        values = ids | {"name": names.get(path.split("/")[2], "")}
        url = path.format(**values)
        for headers in (other, other | {"Accept": "text/event-stream"}):
            reply = service.client.request(
                method.upper(), url, headers=headers | JSON, content=BODIES.get(method)
            )
            problem(reply, 404, "not_found")
            assert not any(value in reply.text for value in ("bert", artifact["sha256"]))
        walked += 1
    assert walked >= 23
    assert service.client.get(f"/v1/jobs/{job_id}").status_code == 200


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
            url.replace("{name}", "config.json"),
            headers={"Authorization": header.encode("latin-1")},
        )
        problem(reply, 401, "unauthorized")
        assert reply.headers["www-authenticate"].startswith("Bearer")


def test_the_open_routes_need_none(settings: Settings, service: Service) -> None:
    for path in OPEN:
        assert service.client.get(path, headers={"Authorization": ""}).status_code == 200
    assert create_app(settings).openapi()["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
