"""Creating, reading, listing, canceling and deleting jobs."""

import json

import pytest

from tests.app.conftest import Service, problem
from tests.support.uploads import dataset_files, model_files

SHORT = {"name": "leap", "max_steps": 10}
"""More steps than three epochs of the tiny dataset have, which LEAP refuses as too few."""


def test_a_request_becomes_a_queued_job_that_states_every_choice(service: Service) -> None:
    body = service.request(method={"name": "kprune"}, metadata={"run": "7"}, priority=3, timeout_s=60)
    reply = service.client.post("/v1/jobs", json=body)

    assert reply.status_code == 202
    job = reply.json()
    assert reply.headers["location"] == job["urls"]["self"]
    assert int(reply.headers["retry-after"]) > 0
    assert job["status"] == "queued"
    assert job["queue_position"] == 1
    assert (job["method"], job["task"], job["target_measure"]) == (
        "kprune",
        "sequence-classification",
        "flops",
    )
    assert {name for name in job["spec"]["columns"].values() if name} == {"text", "label"}
    assert job["plan"]["largest_ratio"] > 0.5
    assert {warning["code"] for warning in job["warnings"]} >= {"no_validation"}
    assert (job["metadata"], job["priority"], job["timeout_s"]) == ({"run": "7"}, 3, 60)
    assert job["model"] == {"id": body["model"]}
    assert service.client.get(job["urls"]["self"]).json() == job


def test_validate_only_plans_and_leaves_nothing_behind(service: Service) -> None:
    body = service.request()
    reply = service.client.post("/v1/jobs", params={"validate_only": True}, json=body)
    assert reply.status_code == 200
    assert reply.json()["plan"]["cost_after"] == pytest.approx(reply.json()["plan"]["cost_before"] / 2)
    assert service.count_jobs() == 0
    made = service.client.post("/v1/jobs", json=body).json()
    assert {key: made[key] for key in reply.json()} == reply.json()


def test_devices_go_to_the_worker_and_what_they_cannot_share_is_refused(service: Service) -> None:
    leap = SHORT | {"batch_size": 6}
    job = service.job(devices=2, method=leap, recover=False, finetune=False)
    assert job["spec"]["devices"] == 2
    assert service.claim().spec["devices"] == 2
    body = service.request(devices=4, method=leap, recover=False, finetune=False)
    problem(service.client.post("/v1/jobs", json=body), 422, "invalid_spec", "/method/batch_size")
    body = service.request(devices=2, method="kprune")
    problem(service.client.post("/v1/jobs", json=body), 422, "invalid_spec", "/devices")
    problem(
        service.client.post("/v1/jobs", json=service.request(devices=0)), 422, "invalid_request", "/devices"
    )


def test_a_missed_target_is_told_of_a_job_that_succeeded(service: Service) -> None:
    job = service.job(target_measure="latency", method="kprune")
    assert (job["target_missed"], job["spec"]["latency_batch"]) == (None, 1)
    service.finish(service.claim(), {}, target_missed=True, latency_target={"asked": 0.5, "measured": 0.1})
    ended = service.client.get(job["urls"]["self"]).json()
    assert (ended["status"], ended["target_missed"]) == ("succeeded", True)
    assert ended["report"]["latency_target"]["measured"] == 0.1
    met = service.job()
    service.finish(service.claim(), {})
    assert service.client.get(met["urls"]["self"]).json()["target_missed"] is False


def test_a_drop_of_quality_takes_the_place_of_the_ratio(service: Service) -> None:
    body = service.request()
    body.pop("target_ratio")
    job = service.client.post("/v1/jobs", json=body | {"max_quality_drop": 1.5}).json()
    assert (job["target_ratio"], job["max_quality_drop"], job["method"]) == (None, 1.5, "kprune")
    problem(service.client.post("/v1/jobs", json=body), 422, "invalid_request", "/target_ratio")
    both = body | {"max_quality_drop": 1.5, "target_ratio": 0.5}
    problem(service.client.post("/v1/jobs", json=both), 422, "invalid_request", "/target_ratio")
    trained = body | {"max_quality_drop": 1.5, "method": "leap"}
    refused = problem(service.client.post("/v1/jobs", json=trained), 422, "invalid_spec", "/max_quality_drop")
    assert "kprune or magnitude" in refused["detail"]


def test_columns_named_by_the_job_are_read_again(service: Service) -> None:
    files = dataset_files(utterance="other", intent="yes")
    lines = [
        json.loads(line) | {"intent": f"i{n % 3}"} for n, line in enumerate(files["train.jsonl"].split(b"\n"))
    ]
    dataset = service.complete("datasets", {"train.jsonl": "\n".join(map(json.dumps, lines)).encode()})
    columns = {"text": "utterance", "label": "intent"}
    job = service.job(dataset=dataset, columns=columns, max_length=64, method=SHORT)
    assert {name for name in job["spec"]["columns"].values() if name} == {"utterance", "intent"}
    refused = service.client.post(
        "/v1/jobs", json=service.request(dataset=dataset, columns={"label": "nowhere"})
    )
    problem(refused, 422, "invalid_data", "/columns/label")


def test_a_job_is_unchanged_until_it_changes(service: Service) -> None:
    job = service.job()
    url = job["urls"]["self"]
    first = service.client.get(url)
    again = service.client.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert again.content == b""
    assert again.headers["etag"] == first.headers["etag"]
    assert int(again.headers["retry-after"]) > 0

    service.claim()
    changed = service.client.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert changed.status_code == 200
    assert changed.json()["status"] == "running"
    assert changed.json()["queue_position"] is None


def test_the_queue_position_is_part_of_the_etag(service: Service) -> None:
    body = service.request()
    service.client.post("/v1/jobs", json=body)
    second = service.client.post("/v1/jobs", json=body).json()
    before = service.client.get(second["urls"]["self"])
    assert before.json()["queue_position"] == 2
    service.claim()
    after = service.client.get(second["urls"]["self"], headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200
    assert after.json()["queue_position"] == 1


def test_lists_are_paged_newest_first_and_filtered(service: Service) -> None:
    body = service.request()
    made = [service.client.post("/v1/jobs", json=body).json()["id"] for _ in range(5)]
    service.client.post(f"/v1/jobs/{made[0]}/cancel")

    seen, cursor = [], None
    for _ in range(3):
        page = service.client.get(
            "/v1/jobs", params={"limit": 2} | ({"cursor": cursor} if cursor else {})
        ).json()
        seen += [job["id"] for job in page["data"]]
        cursor = page["next_cursor"]
        assert page["has_more"] is (cursor is not None)
    assert seen == made[::-1]
    assert cursor is None

    canceled = service.client.get("/v1/jobs", params={"status": "canceled"}).json()["data"]
    assert [job["id"] for job in canceled] == made[:1]
    of_model = service.client.get("/v1/jobs", params={"model": body["model"]}).json()["data"]
    assert len(of_model) == 5
    other = service.client.get("/v1/jobs", params={"model": "mdl_" + "0" * 26}).json()
    assert other == {"data": [], "has_more": False, "next_cursor": None}


@pytest.mark.parametrize("cursor", ["nonsense", "!!", "bWRsX3g", "e30", "_" * 128])
def test_a_cursor_of_nobody_is_refused(service: Service, cursor: str) -> None:
    problem(service.client.get("/v1/jobs", params={"cursor": cursor}), 422, "invalid_cursor", "query:cursor")


def test_canceling_a_waiting_job_ends_it_at_once_and_twice_is_the_same(service: Service) -> None:
    url = service.job()["urls"]["cancel"]
    first, second = service.client.post(url), service.client.post(url)
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json()["status"] == second.json()["status"] == "canceled"
    assert first.json()["finished_at"] == second.json()["finished_at"] is not None
    assert "retry-after" not in first.headers


def test_canceling_a_running_job_is_accepted(service: Service) -> None:
    url = service.job()["urls"]["cancel"]
    service.claim()
    for _ in range(2):
        reply = service.client.post(url)
        assert reply.status_code == 202
        assert reply.json()["status"] == "canceling"
        assert int(reply.headers["retry-after"]) > 0


def test_only_a_job_that_is_over_can_be_deleted(service: Service) -> None:
    job = service.job()
    problem(service.client.delete(job["urls"]["self"]), 409, "not_terminal")
    service.client.post(job["urls"]["cancel"])
    reply = service.client.delete(job["urls"]["self"])
    assert (reply.status_code, reply.content) == (204, b"")
    problem(service.client.get(job["urls"]["self"]), 404, "not_found")


def test_the_result_of_a_job_can_be_the_model_of_another(service: Service) -> None:
    result = {f"model/{name}": content for name, content in model_files().items()}
    first = service.finished(result)
    second = service.job(model={"job": first})
    assert second["model"] == {"job": first}
    listed = service.client.get("/v1/jobs", params={"model": first}).json()["data"]
    assert [job["id"] for job in listed] == [second["id"]]


def test_an_uneven_result_cannot_be_pruned_again(service: Service) -> None:
    sizes = {"auto_map": {"AutoModel": "modeling_pruned.Bert"}, "layer_sizes": [[4, 60], [3, 64]]}
    first = service.finished({f"model/{name}": content for name, content in model_files(**sizes).items()})
    reply = service.client.post("/v1/jobs", json=service.request(model={"job": first}))
    assert "native" in problem(reply, 422, "uneven_model", "/model/job")["detail"]


def test_a_job_without_a_result_is_no_model(service: Service) -> None:
    running = service.job()["id"]
    body = service.request(model={"job": running})
    problem(service.client.post("/v1/jobs", json=body), 409, "not_ready", "/model/job")
    service.client.post(f"/v1/jobs/{running}/cancel")
    problem(service.client.post("/v1/jobs", json=body), 422, "no_model", "/model/job")


def test_what_was_sent_is_what_is_kept(service: Service) -> None:
    job = service.job(method=SHORT, granularity="unstructured", seed=7)
    assert job["spec"]["seed"] == 7
    assert job["spec"]["method"] == "leap"
    assert job["target_measure"] == "weights"


LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 2048,
    "vocab_size": 30,
}


def test_a_decoder_and_plain_text_become_a_job(service: Service) -> None:
    files = model_files() | {"config.json": json.dumps(LLAMA).encode()}
    model = service.complete("models", files)
    text = "\n".join(json.dumps({"text": f"line {n}" if n % 3 else ""}) for n in range(60)).encode()
    dataset = service.complete("datasets", {"train.jsonl": text})
    body = service.request(model=model, dataset=dataset, method={"name": "magnitude"}, max_length=1024)
    job = service.client.post("/v1/jobs", json=body | {"allocation": "native"}).json()
    assert (job["task"], job["method"], job["status"]) == ("causal-lm", "magnitude", "queued")
    assert job["plan"]["shape"]["heads"] == 2
    assert job["plan"]["largest_ratio"] > 0.5

    encoder = service.request(dataset=dataset)
    problem(service.client.post("/v1/jobs", json=encoder), 422, "invalid_data", "/columns/label")
    labelled = service.complete("datasets", dataset_files(4))
    problem(service.client.post("/v1/jobs", json=body | {"dataset": labelled}), 422, "invalid_spec", "/task")
