"""Jobs with a teacher: named as a model is, checked against the model before anything is queued."""

import json
from typing import Any

import pytest

from tests.app.conftest import Service, problem
from tests.support.hub_server import HubServer
from tests.support.uploads import CONFIG, dataset_files, model_files

LEAP = {"name": "leap", "max_steps": 100}


def request(service: Service, **fields: Any) -> dict[str, Any]:
    return service.request(method=LEAP, **fields)


def test_a_job_shows_its_teacher_and_keeps_it(service: Service) -> None:
    teacher = service.complete("models", model_files(hidden_size=64))
    job = service.job(method=LEAP, teacher=teacher)
    assert job["teacher"] == {"id": teacher}
    assert service.client.get(job["urls"]["self"]).json()["teacher"] == {"id": teacher}
    claim = service.claim()
    assert (claim.teacher_id, claim.teacher_job_id) == (teacher, None)
    refused = service.client.delete(f"/v1/models/{teacher}")
    problem(refused, 409, "in_use")


def test_without_a_teacher_the_dense_model_teaches(service: Service) -> None:
    assert service.job(method=LEAP)["teacher"] is None
    claim = service.claim()
    assert (claim.teacher_id, claim.teacher_job_id) == (None, None)


def test_the_result_of_a_job_may_teach(service: Service) -> None:
    made = {f"model/{name}": content for name, content in model_files().items()}
    first = service.finished(made)
    job = service.job(method=LEAP, teacher={"job": first})
    assert job["teacher"] == {"job": first}
    assert service.claim().teacher_job_id == first
    problem(service.client.delete(f"/v1/jobs/{first}"), 409, "in_use")


def test_a_teacher_of_the_hub_is_resolved_to_its_commit(with_hub: Service, hub_server: HubServer) -> None:
    repository = hub_server.add("model", "org/teacher", model_files())
    body = request(with_hub, teacher={"hub": "org/teacher"})
    reply = with_hub.client.post("/v1/jobs", json=body)
    assert reply.status_code == 202, reply.text
    assert reply.json()["teacher"] == {"hub": "org/teacher", "revision": repository.commit}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"vocab_size": 31}, "vocab_size 31"),
        ({"architectures": ["BertModel"]}, "no trained head"),
        ({"id2label": {"0": "a", "1": "b", "2": "c"}}, "other labels"),
        ({"max_position_embeddings": 64}, "at most 64"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused(service: Service, config: dict[str, Any], words: str) -> None:
    teacher = service.complete("models", model_files(**config))
    body = request(service, teacher=teacher)
    for query in ({}, {"validate_only": True}):
        refused = service.client.post("/v1/jobs", params=query, json=body)
        assert words in problem(refused, 422, "invalid_spec", "/teacher")["detail"]
    assert service.count_jobs() == 0


def test_a_teacher_with_another_vocabulary_is_refused(service: Service) -> None:
    files = model_files()
    files["vocab.txt"] = files["vocab.txt"].replace(b"\na\n", b"\nb\n")
    teacher = service.complete("models", files)
    refused = service.client.post("/v1/jobs", json=request(service, teacher=teacher))
    assert "'a', 'b'" in problem(refused, 422, "invalid_spec", "/teacher")["detail"]


def test_the_same_words_in_another_file_are_the_same(service: Service) -> None:
    """Only the vocabulary counts, not how its file is written."""
    vocab = {"[PAD]": 0, "a": 1}
    texts = (
        json.dumps({"model": {"vocab": vocab}}),
        json.dumps({"version": "1.0", "model": {"vocab": vocab}}, indent=1),
    )
    model, teacher = (
        service.complete("models", model_files() | {"tokenizer.json": text.encode()}) for text in texts
    )
    assert service.job(method=LEAP, model=model, teacher=teacher)["teacher"] == {"id": teacher}


def test_a_vocabulary_that_is_not_understood_is_left_to_the_worker(service: Service) -> None:
    made = {f"model/{name}": content for name, content in model_files().items()}
    first = service.finished(made | {"model/tokenizer.json": b'{"model": {}}'})
    tokenizer = {"tokenizer.json": json.dumps({"model": {"vocab": {"a": 0}}}).encode()}
    model = service.complete("models", model_files() | tokenizer)
    job = service.job(method=LEAP, model=model, teacher={"job": first})
    assert job["teacher"] == {"job": first}


def test_a_teacher_that_is_kept_but_still_on_the_hub_is_left_to_the_worker(
    with_hub: Service, hub_server: HubServer
) -> None:
    files = model_files()
    hub_server.add(
        "model", "org/teacher", files | {"vocab.txt": files["vocab.txt"].replace(b"\na\n", b"\nb\n")}
    )
    kept = with_hub.client.post("/v1/models", json={"hub": {"id": "org/teacher"}}).json()["id"]
    reply = with_hub.client.post("/v1/jobs", json=request(with_hub, teacher=kept))
    assert reply.status_code == 202, reply.text


def test_what_trains_nothing_needs_no_teacher(service: Service) -> None:
    teacher = service.complete("models", model_files())
    refused = service.client.post("/v1/jobs", json=service.request(method="magnitude", teacher=teacher))
    problem(refused, 422, "invalid_spec", "/teacher")


def test_references_to_a_teacher_are_checked_at_their_place(service: Service) -> None:
    half = service.upload("models", {})
    refused = service.client.post("/v1/jobs", json=request(service, teacher=half))
    problem(refused, 422, "not_complete", "/teacher")
    running = service.job()["id"]
    refused = service.client.post("/v1/jobs", json=request(service, teacher={"job": running}))
    problem(refused, 409, "not_ready", "/teacher/job")
    malformed = service.client.post("/v1/jobs", json=request(service, teacher="bert"))
    assert malformed.status_code == 422


def test_a_dataset_that_is_still_on_the_hub_leaves_the_configs(
    with_hub: Service, hub_server: HubServer
) -> None:
    hub_server.add("dataset", "org/rows", {"data/train.jsonl": dataset_files()["train.jsonl"]})
    teacher = with_hub.complete("models", model_files(vocab_size=CONFIG["vocab_size"] + 1))
    body = request(with_hub, teacher=teacher, dataset={"hub": "org/rows"})
    refused = with_hub.client.post("/v1/jobs", json=body)
    problem(refused, 422, "invalid_spec", "/teacher")
