"""Every kind of bad input is refused with a code, a place and a remedy, and leaves nothing behind."""

import json
import pickle
import struct
from typing import Any

import pytest
from pydantic import ValidationError

from app.jobs.request import JobRequest
from tests.app.conftest import Service, problem
from tests.support.uploads import CONFIG, dataset_files, model_files, safetensors

ONE = {"weight": (2, 2)}


def refused_model(service: Service, files: dict[str, bytes], code: str, pointer: str | None = None) -> str:
    """The detail of the refusal to complete a model of these files."""
    model_id = service.upload("models", files)
    reply = service.client.post(f"/v1/models/{model_id}/complete")
    assert service.client.get(f"/v1/models/{model_id}").json()["status"] == "uploading"
    return str(problem(reply, 422, code, pointer)["detail"])


def refused_dataset(
    service: Service, content: bytes, pointer: str | None = None, name: str = "train.jsonl"
) -> str:
    """The detail of the refusal to complete a dataset of this training file."""
    dataset_id = service.upload("datasets", {name: content})
    reply = service.client.post(f"/v1/datasets/{dataset_id}/complete")
    assert service.client.get(f"/v1/datasets/{dataset_id}").json()["status"] == "uploading"
    return str(problem(reply, 422, "invalid_data", pointer)["detail"])


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(pickle.dumps({"weight": [1.0] * 100}), id="pickle"),
        pytest.param(safetensors(ONE)[:-1], id="cut short"),
        pytest.param(safetensors(ONE) + b"x", id="bytes behind the end"),
        pytest.param(safetensors(ONE, shape=[2, 3]), id="shape larger than its bytes"),
        pytest.param(safetensors(ONE, data_offsets=[0, 2**60]), id="offsets outside the file"),
        pytest.param(safetensors(ONE, dtype="F99"), id="unknown type"),
        pytest.param(safetensors({"a": (2, 2), "b": (2, 2)}, data_offsets=[0, 16]), id="overlap"),
        pytest.param(struct.pack("<Q", 2**63) + b"{}", id="header longer than the file"),
        pytest.param(b"", id="empty"),
    ],
)
def test_weights_that_are_not_what_they_say(service: Service, content: bytes) -> None:
    detail = refused_model(service, model_files() | {"model.safetensors": content}, "invalid_model")
    assert "model.safetensors" in detail


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "llama"}, "llama"),
        ({"architectures": ["EvilModel"]}, "EvilModel"),
        ({"auto_map": {"AutoModel": "evil.Model"}}, "auto_map"),
        ({"hidden_size": 33}, "hidden_size"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
    ],
)
def test_configs_that_ask_for_what_is_not_there(service: Service, config: dict[str, Any], says: str) -> None:
    assert says in refused_model(service, model_files(**config), "invalid_model")


def test_models_that_are_not_whole(service: Service) -> None:
    files = model_files()
    for name in files:
        rest = {other: content for other, content in files.items() if other != name}
        refused_model(service, rest, "invalid_model", "/files")


@pytest.mark.parametrize(
    ("collection", "name", "code"),
    [
        ("models", "pytorch_model.bin", "unsafe_file"),
        ("models", "weights.pkl", "unsafe_file"),
        ("models", "modeling_evil.py", "unknown_file"),
        ("models", "..%2f..%2fetc%2fpasswd", "not_found"),
        ("models", "%2e%2e", "unknown_file"),
        ("models", "config.json%00", "unknown_file"),
        ("datasets", "train.pickle", "unknown_file"),
        ("datasets", "train.py", "unknown_file"),
    ],
)
def test_file_names_outside_the_list(service: Service, collection: str, name: str, code: str) -> None:
    asset_id = service.upload(collection, {})
    reply = service.client.put(f"/v1/{collection}/{asset_id}/files/{name}", content=b"x")
    problem(reply, 404 if code == "not_found" else 422, code)
    assert not list(service.store.objects())


def test_a_dataset_without_a_label_column(service: Service) -> None:
    content = b'{"text": "a", "mark": 1}\n{"text": "b", "mark": 0}'
    dataset = service.complete("datasets", {"train.jsonl": content})  # plain text, which is for decoders
    reply = service.client.post("/v1/jobs", json=service.request(dataset=dataset))
    assert "mark" in problem(reply, 422, "invalid_data", "/columns/label")["detail"]


def test_a_dataset_of_one_class(service: Service) -> None:
    assert "two" in refused_dataset(service, dataset_files(label=1)["train.jsonl"], "/columns/label")


def test_a_dataset_with_an_empty_row(service: Service) -> None:
    lines = dataset_files(4)["train.jsonl"].split(b"\n")
    lines[2] = b'{"text": " ", "label": 0}'
    assert "line 3" in refused_dataset(service, b"\n".join(lines))


def test_a_dataset_with_a_broken_line_names_the_line(service: Service) -> None:
    lines = dataset_files(4)["train.jsonl"].split(b"\n")
    lines[3] = b'{"text": "a", '
    assert "train.jsonl, line 4" in refused_dataset(service, b"\n".join(lines))


@pytest.mark.parametrize("name", ["train.csv", "train.parquet"])
def test_a_dataset_that_is_something_else(service: Service, name: str) -> None:
    assert name in refused_dataset(service, bytes(range(256)), name=name)


def test_a_dataset_without_rows(service: Service) -> None:
    refused_dataset(service, b"")


@pytest.mark.parametrize("ratio", [1.0, -1, 1.5, "half", None, True])
def test_ratios_that_are_none(service: Service, ratio: object) -> None:
    body = service.request(target_ratio=ratio, model="mdl_" + "0" * 26, dataset="dst_" + "0" * 26)
    problem(service.client.post("/v1/jobs", json=body), 422, "invalid_request", "/target_ratio")


def test_a_ratio_out_of_reach_names_the_nearest(service: Service) -> None:
    body = service.request(target_ratio=0.999, method="kprune")
    document = problem(service.client.post("/v1/jobs", json=body), 422, "target_unreachable", "/target_ratio")
    assert 0.5 < document["nearest"] < 0.999
    assert str(document["nearest"]) in document["detail"]
    reachable = service.client.post("/v1/jobs", json=body | {"target_ratio": document["nearest"]})
    assert reachable.status_code == 202
    assert service.count_jobs() == 1


@pytest.mark.parametrize(
    ("fields", "code", "pointer", "says"),
    [
        ({"method": "kprune", "granularity": "block:4x4"}, "invalid_spec", "/granularity", "leap"),
        ({"method": "nothing"}, "invalid_spec", "/method", "kprune"),
        ({"method": {"name": "kprune", "speed": 9}}, "invalid_spec", "/method/speed", "speed"),
        ({"granularity": "block:5x5"}, "invalid_spec", "/granularity", "divide"),
        ({"granularity": "crumbs"}, "invalid_request", "/granularity", "structured"),
        (
            {"granularity": "unstructured", "target_measure": "flops"},
            "invalid_request",
            "/target_measure",
            "weights",
        ),
        ({"colour": "red"}, "invalid_request", "/colour", "not known"),
        ({"settings": {}}, "invalid_request", "", "method"),
        ({"finetune": {"epochz": 1}}, "invalid_request", "/finetune/epochz", "not known"),
        ({"evaluate": {"batch_sizes": [1, 0]}}, "invalid_request", "/evaluate/batch_sizes/1", "greater"),
        ({"metadata": {"key": 1}}, "invalid_request", "/metadata/key", "string"),
        ({"model": {"hub": "a/b", "version": 1}}, "invalid_request", "/model/version", "not known"),
        ({"model": {"job": "job_1"}}, "invalid_request", "/model/job", "match"),
        ({"model": "mdl_1"}, "invalid_request", "/model", "match"),
        ({"model": 7}, "invalid_request", "/model", "string"),
        ({"dataset": {}}, "invalid_request", "/dataset/hub", "required"),
        ({"seed": 2**70}, "invalid_request", "", "64 bits"),
        ({"metadata": {"key": "\0"}}, "invalid_request", "", "NUL"),
    ],
)
def test_requests_that_cannot_be_carried_out(
    service: Service, fields: dict[str, Any], code: str, pointer: str, says: str
) -> None:
    reply = service.client.post("/v1/jobs", json=service.request(**fields))
    document = problem(reply, 422, code, pointer)
    assert says in json.dumps(document)
    assert service.count_jobs() == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"target_ratio": NaN}',
        b'{"target_ratio": 1e999}',
        b'{"metadata": {"key": "\\ud800"}}',
        b'{"method": ' + b"[" * 40 + b"]" * 40 + b"}",
    ],
)
def test_json_that_no_database_can_hold(service: Service, body: bytes) -> None:
    reply = service.client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    problem(reply, 422, "invalid_request")


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"seed": ' + b"9" * 5000 + b"}"])
def test_bodies_that_are_not_json(service: Service, body: bytes) -> None:
    reply = service.client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    problem(reply, 400, "malformed_body")


@pytest.mark.parametrize("body", [[], "job", 1])
def test_a_request_is_an_object(service: Service, body: object) -> None:
    problem(service.client.post("/v1/jobs", json=body), 422, "invalid_request")
    with pytest.raises(ValidationError, match="dictionary"):
        JobRequest.model_validate(body)


def test_a_dataset_has_one_source(service: Service) -> None:
    problem(service.client.post("/v1/datasets", json={}), 422, "invalid_request")
    both = {"name": "a", "hub": {"id": "org/rows"}}
    problem(service.client.post("/v1/datasets", json=both), 422, "invalid_request")


def test_a_body_of_another_kind(service: Service) -> None:
    reply = service.client.post("/v1/jobs", content=b"a=1", headers={"Content-Type": "text/plain"})
    problem(reply, 415, "unsupported_media_type")


def test_assets_that_are_not_there_or_not_whole(service: Service) -> None:
    unknown = service.request(model="mdl_" + "0" * 26)
    problem(service.client.post("/v1/jobs", json=unknown), 404, "not_found")
    for kind, collection in (("model", "models"), ("dataset", "datasets")):
        body = service.request(**{kind: service.upload(collection, {})})
        problem(service.client.post("/v1/jobs", json=body), 422, "not_complete", f"/{kind}")


def test_a_second_completion(service: Service) -> None:
    for collection, files in (("models", model_files()), ("datasets", dataset_files())):
        asset_id = service.complete(collection, files)
        again = service.client.post(f"/v1/{collection}/{asset_id}/complete")
        problem(again, 409, "already_complete")
        name, content = next(iter(files.items()))
        late = service.client.put(f"/v1/{collection}/{asset_id}/files/{name}", content=content)
        problem(late, 409, "already_complete")


def test_a_name_and_a_hub_together(service: Service) -> None:
    for body in ({}, {"name": "a", "hub": {"id": "a/b"}}, {"name": ""}, {"name": "a", "config": CONFIG}):
        problem(service.client.post("/v1/models", json=body), 422, "invalid_request")
