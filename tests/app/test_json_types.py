"""Numbers and truths of a body are those of JSON: text that looks like one is none, and 5.0 is 5."""

from typing import Any

import pytest

from tests.app.conftest import Service, problem


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"seed": "5"}, "/seed"),
        ({"target_ratio": "0.5"}, "/target_ratio"),
        ({"target_ratio": True}, "/target_ratio"),
        ({"compile": "yes"}, "/compile"),
        ({"compile": 1}, "/compile"),
        ({"evaluate": {"rounds": "5"}}, "/evaluate/rounds"),
        ({"evaluate": {"batch_sizes": ["1"]}}, "/evaluate/batch_sizes/0"),
        ({"recover": {"epochs": "1"}}, "/recover"),
        ({"method": {"name": "leap", "max_steps": "100"}}, "/method/max_steps"),
    ],
)
def test_text_in_a_request_for_a_job_is_no_number(
    service: Service, fields: dict[str, Any], pointer: str
) -> None:
    reply = service.client.post("/v1/jobs", json=service.request() | fields)
    assert any(
        error["pointer"].startswith(pointer) for error in problem(reply, 422, reply.json()["code"])["errors"]
    )
    assert service.count_jobs() == 0


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/v1/keys", {"name": "ci", "expires_at": 4_102_444_800}, "/expires_at"),
        ("/v1/keys", {"name": "ci", "expires_at": True}, "/expires_at"),
        (f"/v1/webhooks/whk_{'0' * 26}/rotate-secret", {"overlap_hours": False}, "/overlap_hours"),
        (f"/v1/webhooks/whk_{'0' * 26}/rotate-secret", {"overlap_hours": "2"}, "/overlap_hours"),
        ("/v1/uploads", {"model": "m", "name": "vocab.txt", "sha256": "0" * 64, "bytes": "5"}, "/bytes"),
    ],
)
def test_nor_is_it_elsewhere(service: Service, path: str, body: dict[str, Any], pointer: str) -> None:
    problem(service.client.post(path, json=body), 422, "invalid_request", pointer)


def test_whole_numbers_may_be_written_with_a_point(service: Service) -> None:
    body = service.request(seed=5.0, devices=1.0, evaluate={"batch_sizes": [2.0]}, target_ratio=0.0)
    spec = service.client.post("/v1/jobs?validate_only=true", json=body | {"method": "auto"}).json()["spec"]
    assert (spec["seed"], spec["evaluate"]["batch_sizes"], spec["target_ratio"]) == (5, [2], 0)
    model = service.upload("models", {})
    assert service.declare(model, "vocab.txt", b"12345", bytes=5.0)["bytes"] == 5


def test_moments_are_text(service: Service) -> None:
    reply = service.client.post("/v1/keys", json={"name": "ci", "expires_at": "2100-01-01T00:00:00Z"})
    assert reply.json()["expires_at"].startswith("2100-01-01")
