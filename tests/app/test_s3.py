"""The API with its store in S3: uploads, redirects, streams, and a store that is away."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from core.accounts.repository import create_key, create_owner
from tests.app.conftest import MakeSettings, Service, problem
from tests.app.test_artifacts import listed
from tests.support.s3_server import FaultyServer, S3Server
from tests.support.uploads import model_files

CONTENT = os.urandom(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
RESULT = {"model/model.safetensors": CONTENT, "report.json": b"{}"}

MakeService = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("hasty_s3")


@pytest.fixture
def serve(make_settings: MakeSettings, s3_settings: dict[str, Any], faulty_s3: FaultyServer) -> MakeService:
    """Run the application on a bucket behind the way that a test can spoil."""

    @contextmanager
    def run(**settings: Any) -> Iterator[Service]:
        app = create_app(make_settings(**(s3_settings | {"s3_endpoint_url": faulty_s3.url} | settings)))
        with app.state.services.database.write() as session:
            owner = create_owner(session, "first")
            _, key = create_key(session, owner.id, "key")
        headers = {"Authorization": f"Bearer {key}"}
        with TestClient(app, headers=headers, follow_redirects=False) as client:
            yield Service(app, client, owner.id, key)

    return run


def test_a_download_is_sent_on_to_s3(serve: MakeService, s3_server: S3Server) -> None:
    with serve(s3_download_url=s3_server.url) as service:
        job_id = service.finished(RESULT)
        url = listed(service, job_id)["model/model.safetensors"]["url"]
        sent_on = service.client.get(url)
        assert (sent_on.status_code, sent_on.content) == (302, b"")
        assert sent_on.headers["cache-control"] == "no-store"
        link = sent_on.headers["location"]
        assert link.startswith(s3_server.url)
        reply = httpx.get(link)
        assert reply.content == CONTENT
        assert reply.headers["content-disposition"] == 'attachment; filename="model.safetensors"'
        same = service.client.get(url, headers={"If-None-Match": f'"{SHA256}"'})
        assert same.status_code == 304
        told = service.client.head(url)
        assert (told.status_code, told.headers["etag"]) == (200, f'"{SHA256}"')
        assert told.headers["content-length"] == str(len(CONTENT))
        archive = service.client.get(f"/v1/jobs/{job_id}/archive")
        assert CONTENT in archive.content  # no link: it is made while it is sent
        _, others = service.owner("another")
        problem(service.client.get(url, headers=others), 404, "not_found")
        service.store.delete(SHA256)
        problem(service.client.get(url), 410, "gone")


def test_a_download_may_go_through_the_api(serve: MakeService, faulty_s3: FaultyServer) -> None:
    with serve(s3_redirects=False) as service:
        url = listed(service, service.finished(RESULT))["model/model.safetensors"]["url"]
        assert service.client.get(url).content == CONTENT
        part = service.client.get(url, headers={"Range": "bytes=-5"})
        assert (part.status_code, part.content) == (206, CONTENT[-5:])
        faulty_s3.spoil(1, "cut reply", "GET", SHA256)
        assert service.client.get(url).content == CONTENT


def test_an_upload_while_s3_fails_is_503_and_keeps_nothing(
    serve: MakeService, faulty_s3: FaultyServer
) -> None:
    with serve() as service:
        model_id = service.upload("models", {})
        url = f"/v1/models/{model_id}/files/config.json"
        faulty_s3.fault = lambda method, path: "cut request"
        for reply in (service.client.put(url, content=b"{}"), service.client.get("/readyz")):
            problem(reply, 503, "store_unavailable")
            assert int(reply.headers["retry-after"]) > 0
        faulty_s3.fault = lambda method, path: "full"
        problem(service.client.put(url, content=b"{}"), 507, "storage_full")
        faulty_s3.fault = lambda method, path: None
        assert service.client.get(f"/v1/models/{model_id}").json()["files"] == []
        assert list(service.store.objects()) == []
        assert service.client.get("/readyz").status_code == 200
        assert service.client.put(url, content=b"{}").status_code == 204


def test_a_completion_while_s3_fails_can_be_repeated(serve: MakeService, faulty_s3: FaultyServer) -> None:
    with serve() as service:
        model_id = service.upload("models", model_files())
        faulty_s3.fault = lambda method, path: "refuse" if method == "GET" else None
        problem(service.client.post(f"/v1/models/{model_id}/complete"), 503, "store_unavailable")
        faulty_s3.fault = lambda method, path: None
        assert service.client.post(f"/v1/models/{model_id}/complete").json()["status"] == "ready"
