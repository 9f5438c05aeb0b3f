"""Models and datasets: uploaded file by file, or named on the hub."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from core.assets.fetch import fetch, keep
from core.assets.files import HubReference
from core.assets.hub import HubClient
from tests.app.conftest import MakeSettings, Service, problem
from tests.support.hub_server import HubServer
from tests.support.uploads import dataset_files, model_files

COLLECTIONS = {"models": model_files(), "datasets": dataset_files()}


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_an_upload_from_its_first_file_to_its_end(service: Service, collection: str) -> None:
    files = COLLECTIONS[collection]
    created = service.client.post(f"/v1/{collection}", json={"name": "  mine "})
    asset = created.json()
    assert created.status_code == 201
    assert created.headers["location"].endswith(f"/v1/{collection}/{asset['id']}")
    assert (asset["name"], asset["status"], asset["source"]) == ("mine", "uploading", "upload")
    for name, content in files.items():
        put = service.client.put(f"/v1/{collection}/{asset['id']}/files/{name}", content=content)
        assert (put.status_code, put.content) == (204, b"")
        assert put.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    complete = service.client.post(f"/v1/{collection}/{asset['id']}/complete").json()
    assert complete["status"] == "ready"
    assert complete["bytes"] == sum(map(len, files.values()))
    assert len(complete["digest"]) == 64
    assert {file["name"]: file["bytes"] for file in complete["files"]} == {
        name: len(content) for name, content in files.items()
    }
    assert service.client.get(f"/v1/{collection}/{asset['id']}").json() == complete
    assert service.client.get(f"/v1/{collection}").json()["data"] == [complete]


def test_what_a_model_and_a_dataset_turn_out_to_be(service: Service) -> None:
    model = service.client.get(f"/v1/models/{service.complete('models', model_files())}").json()
    assert (model["model_type"], model["parameters"], model["hub"]) == ("bert", 960, None)
    dataset = service.client.get(f"/v1/datasets/{service.complete('datasets', dataset_files())}").json()
    assert dataset["summary"]["splits"] == {"train": 20}
    assert dataset["summary"]["classes"] == ["0", "1"]


def test_a_second_upload_of_a_name_replaces_the_first(service: Service) -> None:
    files = dataset_files()
    dataset_id = service.upload("datasets", {"train.jsonl": b"broken"})
    service.client.put(f"/v1/datasets/{dataset_id}/files/train.jsonl", content=files["train.jsonl"])
    assert service.client.post(f"/v1/datasets/{dataset_id}/complete").status_code == 200


def test_columns_with_unusual_names_are_named_at_completion(service: Service) -> None:
    rows = [{"foo": f"a {i}", "bar": f"b {i}", "mark": i % 2} for i in range(4)]
    content = "\n".join(json.dumps(row) for row in rows).encode()
    dataset_id = service.upload("datasets", {"train.jsonl": content})
    url = f"/v1/datasets/{dataset_id}/complete"
    problem(service.client.post(url), 422, "invalid_data", "/columns/label")
    problem(
        service.client.post(url, json={"columns": {"lable": "mark"}}),
        422,
        "invalid_request",
        "/columns/lable",
    )
    columns = {"text": "bar", "label": "mark"}
    summary = service.client.post(url, json={"columns": columns}).json()["summary"]
    assert {name: summary[name] for name in columns} == columns
    job = service.job(dataset=dataset_id)
    assert named(job) == {"text": "bar", "label": "mark"}


def named(job: dict[str, Any]) -> dict[str, str]:
    """The columns that a job uses."""
    return {field: name for field, name in job["spec"]["columns"].items() if name is not None}


def test_tags_and_answers_are_summarised_and_planned(service: Service) -> None:
    sentence = {"tokens": ["Ann", "met", "Bob"], "ner_tags": [1, 0, 1]}
    asked = {"context": "Ann met Bob", "question": "Who?", "answers": {"text": ["Ann"], "answer_start": [0]}}
    for row, task, columns in (
        (sentence, "token-classification", {"tokens": "tokens", "tags": "ner_tags"}),
        (asked, "question-answering", {name: name for name in asked}),
    ):
        dataset_id = service.complete("datasets", {"train.jsonl": (json.dumps(row) + "\n").encode() * 64})
        summary = service.client.get(f"/v1/datasets/{dataset_id}").json()["summary"]
        assert {field: summary[field] for field in columns} == columns
        job = service.job(dataset=dataset_id, max_length=64)
        assert job["task"] == task
        assert named(job) == columns
        wrong = service.request(dataset=dataset_id, task="sequence-classification")
        refused = problem(service.client.post("/v1/jobs", json=wrong), 422, "invalid_data", "/task")
        assert f"Use task {task}" in refused["detail"]
    broken = service.upload("datasets", {"train.jsonl": json.dumps(sentence | {"ner_tags": [1]}).encode()})
    reply = problem(
        service.client.post(f"/v1/datasets/{broken}/complete"), 422, "invalid_data", "/columns/tags"
    )
    assert "line 1: 1 tags for 3 tokens" in reply["detail"]


def test_labels_that_are_numbers_take_names(service: Service) -> None:
    job = service.job(label_names=["bad", "good"])
    assert job["spec"]["label_names"] == ["bad", "good"]
    refused = service.client.post("/v1/jobs", json=service.request(label_names=["bad"]))
    problem(refused, 422, "invalid_spec", "/label_names")


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_deleting_waits_for_the_jobs_that_use_it(service: Service, collection: str) -> None:
    kind = collection.removesuffix("s")
    asset_id = service.complete(collection, COLLECTIONS[collection])
    job = service.job(**{kind: asset_id})
    problem(service.client.delete(f"/v1/{collection}/{asset_id}"), 409, "in_use")
    service.client.post(job["urls"]["cancel"])
    assert service.client.delete(f"/v1/{collection}/{asset_id}").status_code == 204
    problem(service.client.get(f"/v1/{collection}/{asset_id}"), 404, "not_found")


def publish(hub: HubServer) -> dict[str, str]:
    """Put a model and a dataset on the hub; their commits."""
    model = hub.add("model", "org/tiny", model_files() | {"pytorch_model.bin": b"never fetched"})
    dataset = hub.add("dataset", "org/words", {"data/train.jsonl": dataset_files()["train.jsonl"]})
    return {"model": model.commit, "dataset": dataset.commit}


def test_hub_references_are_resolved_and_kept(with_hub: Service, hub_server: HubServer) -> None:
    commits = publish(hub_server)
    model = with_hub.client.post("/v1/models", json={"hub": {"id": "org/tiny"}})
    assert model.status_code == 201, model.text
    assert model.json()["status"] == "pending"
    assert model.json()["hub"] == {"id": "org/tiny", "revision": commits["model"]}
    assert model.json()["model_type"] == "bert"
    assert not any(path.endswith(".bin") for _, path in hub_server.requests)
    dataset = with_hub.client.post("/v1/datasets", json={"hub": {"id": "org/words"}})
    assert dataset.status_code == 201, dataset.text
    assert dataset.json()["hub"] == {"id": "org/words", "revision": commits["dataset"], "config": None}


def test_a_job_on_the_hub_is_queued_without_a_plan(with_hub: Service, hub_server: HubServer) -> None:
    commits = publish(hub_server)
    body = {"model": {"hub": "org/tiny"}, "dataset": {"hub": "org/words", "revision": commits["dataset"]}}
    checked = with_hub.client.post(
        "/v1/jobs", params={"validate_only": True}, json=body | {"target_ratio": 0.5}
    )
    assert checked.status_code == 200
    assert with_hub.client.get("/v1/models").json()["data"] == []
    reply = with_hub.client.post("/v1/jobs", json=body | {"target_ratio": 0.5, "method": "leap"})
    assert reply.status_code == 202, reply.text
    job = reply.json()
    assert job["model"] == {"hub": "org/tiny", "revision": commits["model"]}
    assert job["dataset"] == {"hub": "org/words", "config": None, "revision": commits["dataset"]}
    assert (job["plan"], job["task"], job["method"]) == (None, None, "leap")
    refused = with_hub.client.post(
        "/v1/jobs", json=body | {"target_ratio": 0.5, "method": {"name": "leap", "x": 1}}
    )
    problem(refused, 422, "invalid_spec", "/method/x")
    assert len(with_hub.client.get("/v1/models").json()["data"]) == 1


def test_a_dataset_of_the_hub_that_a_job_has_fetched_is_planned_with(
    with_hub: Service, hub_server: HubServer, tmp_path: Path
) -> None:
    publish(hub_server)
    body = {"model": {"hub": "org/tiny"}, "dataset": {"hub": "org/words"}, "target_ratio": 0.5}
    assert with_hub.client.post("/v1/jobs", json=body).json()["plan"] is None
    dataset = with_hub.client.get("/v1/datasets").json()["data"][0]
    hub = HubClient(hub_server.url)
    found = hub.resolve_dataset("org/words")
    fetched = fetch(
        hub, HubReference("dataset", found.hub_id, found.revision), found.files, tmp_path / "fetched"
    )
    keep(with_hub.services.database, with_hub.store, dataset["id"], tmp_path / "fetched", fetched)
    job = with_hub.client.post("/v1/jobs", json=body).json()
    assert job["plan"]["cost_after"] > 0
    assert job["task"] == "sequence-classification"
    assert with_hub.client.get("/v1/datasets").json()["data"][0]["status"] == "ready"
    assert len(with_hub.client.get("/v1/datasets").json()["data"]) == 1


def test_a_stored_answer_needs_no_hub(with_hub: Service, hub_server: HubServer) -> None:
    publish(hub_server)
    body = {"model": {"hub": "org/tiny"}, "dataset": {"hub": "org/words"}, "target_ratio": 0.5}
    first = with_hub.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "a"})
    hub_server.broken = True
    again = with_hub.client.post("/v1/jobs", json=body, headers={"Idempotency-Key": "a"})
    assert again.json() == first.json()


def test_what_the_hub_does_not_have(with_hub: Service, hub_server: HubServer) -> None:
    publish(hub_server)
    hub_server.add("model", "org/gated", model_files(), token="secret")
    hub_server.add("model", "org/evil", model_files(auto_map={"AutoModel": "evil.Model"}))
    for hub_id, code in (
        ("org/none", "hub_not_found"),
        ("org/gated", "hub_not_found"),
        ("org/evil", "invalid_model"),
    ):
        problem(with_hub.client.post("/v1/models", json={"hub": {"id": hub_id}}), 422, code, "/hub")
    body = {
        "model": {"hub": "org/tiny", "revision": "v9"},
        "dataset": {"hub": "org/words"},
        "target_ratio": 0.5,
    }
    problem(with_hub.client.post("/v1/jobs", json=body), 422, "hub_not_found", "/model/revision")
    for hub_id in ("../../etc", "org/tiny/more", "", "a b"):
        refused = with_hub.client.post("/v1/models", json={"hub": {"id": hub_id}})
        problem(refused, 422, "invalid_request", "/hub/id")


def test_a_model_of_the_hub_that_is_too_large_names_its_place(
    make_settings: MakeSettings, with_hub: Service, hub_server: HubServer
) -> None:
    publish(hub_server)
    small = create_app(make_settings(hub_endpoint=hub_server.url, max_model_bytes=1024, max_file_bytes=1024))
    with TestClient(small, headers={"Authorization": f"Bearer {with_hub.key}"}) as client:
        body = {"model": {"hub": "org/tiny"}, "dataset": {"hub": "org/words"}, "target_ratio": 0.5}
        problem(client.post("/v1/jobs", json=body), 422, "too_large", "/model")


def test_a_hub_that_fails_or_is_off(
    with_hub: Service, hub_server: HubServer, make_settings: MakeSettings
) -> None:
    hub_server.broken = True
    reply = with_hub.client.post("/v1/models", json={"hub": {"id": "org/tiny"}})
    problem(reply, 502, "hub_unavailable")
    assert int(reply.headers["retry-after"]) > 0
    off = create_app(make_settings(hub_enabled=False))
    with TestClient(off, headers={"Authorization": f"Bearer {with_hub.key}"}) as client:
        problem(client.post("/v1/models", json={"hub": {"id": "org/tiny"}}), 422, "hub_disabled", "/hub")
