"""Requests that cut the vocabulary, and the forms of a result."""

from tests.app.conftest import Service, problem
from tests.support.hub_server import HubServer
from tests.support.uploads import dataset_files


def test_a_vocabulary_has_no_target_and_an_onnx_file_is_an_option(service: Service) -> None:
    body = service.request(granularity="vocabulary", exports=["onnx"])
    problem(service.client.post("/v1/jobs", json=body), 422, "invalid_request", "/target_ratio")
    body.pop("target_ratio")
    job = service.client.post("/v1/jobs", json=body).json()
    assert (job["target_ratio"], job["max_quality_drop"], job["method"]) == (None, None, "none")
    assert (job["target_measure"], job["spec"]["exports"]) == ("parameters", ["onnx"])
    plan = service.client.post("/v1/jobs/plan", json=body).json()["forecast"]
    assert (plan["after"], plan["units"]) == (None, [])
    refused = problem(
        service.client.post("/v1/jobs", json=body | {"round_to": 4}), 422, "invalid_spec", "/round_to"
    )
    assert "Leave it out" in refused["detail"]
    problem(
        service.client.post("/v1/jobs", json=body | {"exports": ["tflite"]}),
        422,
        "invalid_request",
        "/exports/0",
    )


def test_a_vocabulary_for_a_dataset_of_the_hub_is_settled_before_it_is_there(
    with_hub: Service, hub_server: HubServer
) -> None:
    hub_server.add("dataset", "org/rows", {"data/train.jsonl": dataset_files()["train.jsonl"]})
    body = with_hub.request(granularity="vocabulary", dataset={"hub": "org/rows"})
    body.pop("target_ratio")
    refused = with_hub.client.post("/v1/jobs", json=body | {"round_to": 4})
    problem(refused, 422, "invalid_spec", "/round_to")
    job = with_hub.client.post("/v1/jobs", json=body).json()
    assert (job["granularity"], job["plan"]) == ("vocabulary", None)
