"""Every change over HTTP is in the audit log, and what was refused is not."""

import json
from typing import Any

from app import publish_openapi
from tests.app.conftest import Service, problem
from tests.app.test_webhooks import PUBLIC
from tests.support.uploads import dataset_files, model_files

ACTIONS = {
    "create_model": "model.create",
    "upload_model_file": "model.upload",
    "complete_model": "model.complete",
    "delete_model": "model.delete",
    "create_dataset": "dataset.create",
    "upload_dataset_file": "dataset.upload",
    "complete_dataset": "dataset.complete",
    "delete_dataset": "dataset.delete",
    "create_upload": "upload.create",
    "complete_upload": "model.upload",
    "delete_upload": "upload.delete",
    "create_job": "job.create",
    "pause_job": "job.pause",
    "resume_job": "job.resume",
    "cancel_job": "job.cancel",
    "delete_job": "job.delete",
    "create_webhook": "webhook.create",
    "update_webhook": "webhook.update",
    "rotate_webhook_secret": "webhook.rotate",
    "ping_webhook": "webhook.ping",
    "redeliver_webhook_delivery": "webhook.redeliver",
    "delete_webhook": "webhook.delete",
    "create_key": "key.create",
    "revoke_key": "key.revoke",
}
"""What each operation that changes something leaves in the log."""
UNRECORDED = {"upload_part", "plan_job"}
"""A part is seen by nobody before the next operation, which is recorded; a plan changes nothing."""


def log(service: Service, **query: Any) -> list[dict[str, Any]]:
    """The newest records."""
    reply = service.client.get("/v1/audit", params={"limit": 100} | query)
    assert reply.status_code == 200, reply.text
    return list(reply.json()["data"])


def test_every_operation_that_changes_something_has_its_action() -> None:
    document = json.loads(publish_openapi.PATH.read_text("utf-8"))  # which is the served one
    changing = {
        operation["operationId"]
        for methods in document["paths"].values()
        for method, operation in methods.items()
        if method != "get"
    }
    assert changing == set(ACTIONS) | UNRECORDED


def test_every_change_leaves_a_record(service: Service) -> None:
    model_id = service.complete("models", model_files())
    upload = service.declare(service.upload("models", {}), "config.json", b"{}")
    service.client.delete(f"/v1/uploads/{upload['id']}")
    dataset_id = service.complete("datasets", dataset_files())
    client, body = service.client, service.request(model=model_id, dataset=dataset_id)
    # A repeated request changes nothing, so it leaves nothing.
    (job_id,) = {
        client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "once"}).json()["id"] for _ in range(2)
    }
    problem(client.delete(f"/v1/models/{model_id}"), 409, "in_use")
    client.post(f"/v1/jobs/{job_id}/pause")
    client.post(f"/v1/jobs/{job_id}/resume")
    client.post(f"/v1/jobs/{job_id}/cancel", headers={"X-Request-ID": "mine"})
    client.delete(f"/v1/jobs/{job_id}")
    client.delete(f"/v1/models/{model_id}")
    client.delete(f"/v1/datasets/{dataset_id}")
    hook = f"/v1/webhooks/{client.post('/v1/webhooks', json={'url': PUBLIC}).json()['id']}"
    client.patch(hook, json={"description": "chat"})
    client.post(f"{hook}/rotate-secret")
    delivery = client.post(f"{hook}/ping").json()["id"]
    client.post(f"{hook}/deliveries/{delivery}/redeliver")
    client.delete(hook)
    key_id = client.post("/v1/keys", json={"name": "ci"}).json()["id"]
    client.delete(f"/v1/keys/{key_id}")

    records = log(service)
    assert {record["action"] for record in records} == set(ACTIONS.values())
    assert {record["outcome"] for record in records} == {"done"}
    assert {record["actor"] for record in records} == {client.get("/v1/account").json()["key"]["id"]}
    for action in ("job.create", "model.delete"):
        assert len([record for record in records if record["action"] == action]) == 1
    (canceled,) = log(service, action="job.cancel")
    assert (canceled["object"], canceled["request_id"]) == (job_id, "mine")
    (revoked,) = log(service, action="key.revoke")
    assert revoked["object"] == key_id


def test_the_log_is_read_in_pages_and_of_ones_own(service: Service) -> None:
    _, other = service.owner("second")
    for _ in range(3):
        service.upload("models", {})
    first = service.client.get("/v1/audit", params={"limit": 2}).json()
    rest = service.client.get("/v1/audit", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [len(page["data"]) for page in (first, rest)] == [2, 1]
    assert service.client.get("/v1/audit", headers=other).json()["data"] == []
    problem(
        service.client.get("/v1/audit", params={"action": "DROP"}), 422, "invalid_request", "query:action"
    )
