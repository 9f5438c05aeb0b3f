"""Files in parts: declared, sent in any order, put together, and nothing else."""

import hashlib
import random
import resource
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update
from sqlalchemy.orm import Session

from app.main import create_app
from app.uploads import body
from app.uploads import parts as parts_module
from core.accounts.repository import create_key, create_owner
from core.accounts.scopes import Scope
from core.assets import repository as assets
from core.uploads.parts import assemble
from core.uploads.tables import Upload, UploadStatus
from tests.app.conftest import MakeSettings, Service, problem
from tests.app.http.test_digest import promise
from tests.app.test_limits import left_over
from tests.support.server import running
from tests.support.uploads import dataset_files, model_files, safetensors

PART = 64 * 1024
FILES = model_files()
CONTENT = random.Random(0).randbytes(179_200)  # two parts and a piece
PARTS = [CONTENT[start : start + PART] for start in range(0, len(CONTENT), PART)]


@pytest.fixture
def service(make_settings: MakeSettings) -> Iterator[Service]:
    """The application with the smallest parts."""
    app = create_app(
        make_settings(upload_part_bytes=PART, max_file_bytes=10 * PART, max_model_bytes=11 * PART)
    )
    with app.state.services.database.write() as session:
        owner = create_owner(session, "first")
        _, key = create_key(session, owner.id, "key")
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        yield Service(app, client, owner.id, key)


@pytest.fixture
def upload(service: Service) -> dict[str, Any]:
    """A declared file of a new model."""
    return service.declare(service.upload("models", {}), "model.safetensors", CONTENT)


def put(service: Service, upload: dict[str, Any], number: int, content: bytes, **headers: str) -> Any:
    return service.client.put(f"/v1/uploads/{upload['id']}/parts/{number}", content=content, headers=headers)


def put_all(service: Service, upload: dict[str, Any]) -> None:
    for number, part in enumerate(PARTS, 1):
        assert put(service, upload, number, part).status_code == 204


def complete(service: Service, upload: dict[str, Any]) -> Any:
    return service.client.post(f"/v1/uploads/{upload['id']}/complete")


def test_parts_in_any_order_become_one_file(service: Service, upload: dict[str, Any]) -> None:
    assert (upload["status"], upload["part_bytes"], upload["part_count"], upload["parts"]) == (
        "receiving",
        PART,
        3,
        [],
    )
    for number in (3, 1):
        reply = put(service, upload, number, PARTS[number - 1], **promise(PARTS[number - 1]))
        assert reply.status_code == 204
        assert reply.headers["etag"] == f'"{hashlib.sha256(PARTS[number - 1]).hexdigest()}"'
    refused = problem(complete(service, upload), 409, "parts_missing")
    assert "missing: 2." in refused["detail"]
    again = service.declare(upload["model"], "model.safetensors", CONTENT)
    assert again["id"] == upload["id"]
    assert [(part["number"], part["bytes"]) for part in again["parts"]] == [(1, PART), (3, len(PARTS[2]))]
    assert service.client.get(f"/v1/uploads/{upload['id']}").json() == again
    assert service.client.get("/v1/uploads").json()["data"] == [again]
    assert put(service, upload, 2, PARTS[1]).status_code == 204
    first, second = complete(service, upload), complete(service, upload)
    assert first.status_code == second.status_code == 200
    assert first.json() == second.json()
    assert (first.json()["status"], first.json()["parts"]) == ("complete", [])
    model = service.client.get(f"/v1/models/{upload['model']}").json()
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert model["files"] == [{"name": "model.safetensors", "bytes": len(CONTENT), "sha256": sha256}]
    assert list(service.store.objects()) == [sha256], "the parts are gone at once"
    with service.store.open(sha256) as file:
        assert file.read() == CONTENT
    problem(put(service, upload, 1, PARTS[0]), 409, "already_complete")
    assert service.client.delete(f"/v1/models/{upload['model']}").status_code == 204
    problem(service.client.get(f"/v1/uploads/{upload['id']}"), 404, "not_found")


def test_a_model_and_a_dataset_whose_files_came_in_parts_are_ready(service: Service) -> None:
    for collection, files in (("models", FILES), ("datasets", dataset_files())):
        asset_id = service.upload(collection, {})
        for name, content in files.items():
            kind = {"model": None, "dataset": None, collection[:-1]: asset_id}
            upload = service.declare(asset_id, name, content, **kind)
            problem(service.client.post(f"/v1/{collection}/{asset_id}/complete"), 409, "upload_open")
            assert put(service, upload, 1, content).status_code == 204
            assert complete(service, upload).status_code == 200
        whole = service.client.get(f"/v1/{collection}/{service.complete(collection, files)}").json()
        assert (
            service.client.post(f"/v1/{collection}/{asset_id}/complete").json()["digest"] == whole["digest"]
        )


def test_a_hostile_file_in_parts_is_refused_like_a_whole_one(service: Service) -> None:
    lying = safetensors({"bert.embeddings.word_embeddings.weight": (700, 32)}, data_offsets=[0, 2**40])
    for name, content in (("model.safetensors", lying), ("vocab.txt", b"\xff" * 2 * PART)):
        upload = service.declare(service.upload("models", FILES), name, content)
        for number in range(1, upload["part_count"] + 1):
            part = content[(number - 1) * PART : number * PART]
            assert put(service, upload, number, part).status_code == 204
        assert complete(service, upload).status_code == 200
        url = f"/v1/models/{upload['model']}"
        refused = problem(service.client.post(f"{url}/complete"), 422, "invalid_model")
        whole = service.client.post(
            f"/v1/models/{service.upload('models', FILES | {name: content})}/complete"
        )
        assert refused["detail"] == whole.json()["detail"]
        assert service.client.get(url).json()["status"] == "uploading"


def test_a_part_may_be_sent_again_but_not_changed(service: Service, upload: dict[str, Any]) -> None:
    for _ in range(2):
        assert put(service, upload, 1, PARTS[0]).status_code == 204
        assert len(left_over(service)) == 1
    other = bytes(PART)
    problem(put(service, upload, 1, other), 409, "part_conflict")
    assert len(left_over(service)) == 1
    shown = service.client.get(f"/v1/uploads/{upload['id']}").json()
    assert [part["sha256"] for part in shown["parts"]] == [hashlib.sha256(PARTS[0]).hexdigest()]


def test_a_part_that_is_not_one_leaves_nothing(service: Service, upload: dict[str, Any]) -> None:
    for number, content, headers, status, code in (
        (1, PARTS[0][:-1], {}, 422, "wrong_part_size"),
        (3, b"", {}, 422, "wrong_part_size"),
        (1, PARTS[0] + b"x", {}, 413, "body_too_large"),
        (3, PARTS[0], {}, 413, "body_too_large"),
        (1, PARTS[0], promise(PARTS[1]), 422, "digest_mismatch"),
        (4, PARTS[0], {}, 422, "invalid_request"),
        (0, PARTS[0], {}, 422, "invalid_request"),
        (2**40, PARTS[0], {}, 422, "invalid_request"),
    ):
        problem(put(service, upload, number, content, **headers), status, code)
        assert left_over(service) == []
        assert service.client.get(f"/v1/uploads/{upload['id']}").json()["parts"] == []


def test_parts_of_another_file_are_not_taken_for_it(service: Service, upload: dict[str, Any]) -> None:
    for number, part in enumerate([PARTS[0], PARTS[0], PARTS[2]], 1):
        assert put(service, upload, number, part).status_code == 204
    expected = problem(complete(service, upload), 422, "digest_mismatch")
    assert hashlib.sha256(PARTS[0]).hexdigest() not in expected["detail"]
    assert left_over(service) == []
    problem(service.client.get(f"/v1/uploads/{upload['id']}"), 404, "not_found")
    assert service.client.get(f"/v1/models/{upload['model']}").json()["files"] == []


def test_two_completions_at_once_make_one_file(service: Service, upload: dict[str, Any]) -> None:
    put_all(service, upload)
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: complete(service, upload).status_code, range(4)))
    assert replies == [200] * 4
    assert len(left_over(service)) == 1


def test_a_completion_that_lost_its_parts_to_another_has_the_file(
    service: Service, upload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_all(service, upload)

    def overtaken(*arguments: Any) -> None:
        monkeypatch.setattr(parts_module, "assemble", assemble)
        assert complete(service, upload).status_code == 200
        assemble(*arguments)

    monkeypatch.setattr(parts_module, "assemble", overtaken)
    reply = complete(service, upload)
    assert (reply.status_code, reply.json()["status"]) == (200, "complete")
    assert len(left_over(service)) == 1


def test_a_completion_that_another_overtook_after_the_whole_was_there_has_the_file(
    service: Service, upload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_all(service, upload)

    def overtaken(*arguments: Any) -> None:
        monkeypatch.setattr(parts_module, "assemble", assemble)
        assemble(*arguments)
        assert complete(service, upload).status_code == 200

    monkeypatch.setattr(parts_module, "assemble", overtaken)
    reply = complete(service, upload)
    assert (reply.status_code, reply.json()["status"]) == (200, "complete")
    assert len(left_over(service)) == 1


def test_a_completion_that_waited_for_another_changes_nothing(
    service: Service, upload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_all(service, upload)
    lock = assets.lock_uploading

    def overtaken(session: Session, *arguments: Any) -> None:
        lock(session, *arguments)
        session.execute(update(Upload).values(status=UploadStatus.COMPLETE))

    monkeypatch.setattr(assets, "lock_uploading", overtaken)
    reply = complete(service, upload)
    assert (reply.status_code, reply.json()["status"]) == (200, "complete")
    assert service.client.get(f"/v1/models/{upload['model']}").json()["files"] == []


def test_a_client_that_falls_silent_is_let_go(
    service: Service, upload: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "SILENCE_SECONDS", 0.2)
    headers = {"Authorization": f"Bearer {service.key}"}

    def halting() -> Iterator[bytes]:
        yield PARTS[0][:10]
        time.sleep(2)
        yield PARTS[0][10:]

    with running(create_app(service.services.settings)) as url:
        reply = httpx.put(f"{url}/v1/uploads/{upload['id']}/parts/1", content=halting(), headers=headers)
    problem(reply, 408, "upload_stalled")
    assert left_over(service) == []


def test_other_bytes_wait_for_the_end_of_the_first(service: Service, upload: dict[str, Any]) -> None:
    body = {"model": upload["model"], "name": upload["name"], "bytes": 5, "sha256": "a" * 64}
    problem(service.client.post("/v1/uploads", json=body), 409, "upload_conflict")
    assert put(service, upload, 1, PARTS[0]).status_code == 204
    assert service.client.delete(f"/v1/uploads/{upload['id']}").status_code == 204
    assert left_over(service) == []
    problem(put(service, upload, 2, PARTS[1]), 404, "not_found")
    assert service.client.post("/v1/uploads", json=body).status_code == 201


def test_a_file_may_be_replaced_until_the_model_is_complete(service: Service, upload: dict[str, Any]) -> None:
    put_all(service, upload)
    complete(service, upload)
    second = service.declare(upload["model"], upload["name"], FILES["model.safetensors"])
    assert second["id"] != upload["id"]
    assert put(service, second, 1, FILES["model.safetensors"]).status_code == 204
    complete(service, second)
    for name in sorted(set(FILES) - {"model.safetensors"}):
        service.client.put(f"/v1/models/{upload['model']}/files/{name}", content=FILES[name])
    assert service.client.post(f"/v1/models/{upload['model']}/complete").json()["status"] == "ready"
    body = {"model": upload["model"], "name": "vocab.txt", "bytes": 5, "sha256": "a" * 64}
    problem(service.client.post("/v1/uploads", json=body), 409, "already_complete")


def test_declarations_that_are_refused(service: Service) -> None:
    model_id = service.upload("models", {})
    body = {"model": model_id, "name": "model.safetensors", "bytes": 5, "sha256": "a" * 64}
    refused: list[tuple[dict[str, Any], int, str, str | None]] = [
        ({"name": "model.bin"}, 422, "unsafe_file", None),
        ({"name": "../config.json"}, 422, "unknown_file", None),
        ({"bytes": 10 * PART + 1}, 413, "too_large", "/bytes"),
        ({"bytes": 0}, 422, "invalid_request", "/bytes"),
        ({"sha256": "A" * 64}, 422, "invalid_request", "/sha256"),
        ({"dataset": "dst_" + "0" * 26}, 422, "invalid_request", None),
        ({"model": None}, 422, "invalid_request", None),
        ({"model": "mdl_" + "0" * 26}, 404, "not_found", None),
        ({"model": None, "dataset": "dst_\x7f", "name": "train.csv"}, 404, "not_found", None),
        ({"part_bytes": 5}, 422, "invalid_request", "/part_bytes"),
    ]
    for change, status, code, pointer in refused:
        problem(service.client.post("/v1/uploads", json=body | change), status, code, pointer)
    assert service.client.get("/v1/uploads").json()["data"] == []


def test_all_files_together_are_bounded_before_they_are_sent(service: Service) -> None:
    model_id = service.upload("models", {"vocab.txt": bytes(2 * PART)})
    body = {"model": model_id, "name": "model.safetensors", "bytes": 10 * PART, "sha256": "a" * 64}
    problem(service.client.post("/v1/uploads", json=body), 413, "too_large")


def test_a_full_disk_keeps_the_parts_that_are_there(service: Service, upload: dict[str, Any]) -> None:
    put_all(service, upload)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    # A part fits, the whole does not; the database's own files grow by no more than that.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * PART, before[1]))
    try:
        problem(complete(service, upload), 507, "storage_full")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert len(left_over(service)) == len(PARTS)
    assert complete(service, upload).json()["status"] == "complete"


def test_a_key_needs_the_scope_of_what_the_file_is_for(service: Service, upload: dict[str, Any]) -> None:
    address = f"/v1/uploads/{upload['id']}"
    reader, writer, stranger = (
        service.further_key(scope) for scope in (Scope.MODELS_READ, Scope.MODELS_WRITE, Scope.DATASETS_WRITE)
    )
    declaration = {"model": upload["model"], "name": "config.json", "bytes": 2, "sha256": "0" * 64}
    assert service.client.get(address, headers=reader).status_code == 200
    assert service.client.put(f"{address}/parts/1", content=PARTS[0], headers=writer).status_code == 204
    for headers in (reader, stranger):
        problem(
            service.client.post("/v1/uploads", json=declaration, headers=headers), 403, "insufficient_scope"
        )
        problem(
            service.client.put(f"{address}/parts/2", content=PARTS[1], headers=headers),
            403,
            "insufficient_scope",
        )
        problem(service.client.get("/v1/uploads", headers=headers), 403, "insufficient_scope")
        problem(service.client.delete(address, headers=headers), 403, "insufficient_scope")


def test_a_declared_file_takes_its_room_at_once(make_settings: MakeSettings) -> None:
    app = create_app(make_settings(upload_part_bytes=PART, max_stored_bytes=2 * PART))
    with app.state.services.database.write() as session:
        owner = create_owner(session, "first")
        _, key = create_key(session, owner.id, "key")
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        service = Service(app, client, owner.id, key)
        model = service.upload("models", {})
        first = service.declare(model, "model.safetensors", CONTENT[: 2 * PART])
        body = {"model": model, "name": "config.json", "bytes": 2, "sha256": "0" * 64}
        refused = problem(client.post("/v1/uploads", json=body), 429, "quota_exceeded")
        assert (refused["limit"], refused["used"]) == (2 * PART, 2 * PART + 2)
        client.delete(f"/v1/uploads/{first['id']}")
        assert client.post("/v1/uploads", json=body).status_code == 201
