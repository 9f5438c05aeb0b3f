"""The service as a client meets it: the whole application over a database made by the migrations."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.main import create_app
from app.services import Services
from core.accounts.repository import create_key, create_owner
from core.accounts.scopes import Scope
from core.artifacts.repository import ArtifactRecord
from core.artifacts.store import Store
from core.jobs import leases, repository
from core.jobs.attempts import Claim
from core.jobs.events import NewEvent
from core.settings import Settings
from tests.support.hub_server import HubServer
from tests.support.uploads import dataset_files, model_files


@dataclass
class Service:
    """An application with a client that has an owner's key."""

    app: FastAPI
    client: TestClient
    owner_id: str
    key: str

    @property
    def services(self) -> Services:
        services = self.app.state.services
        assert isinstance(services, Services)
        return services

    @property
    def store(self) -> Store:
        return self.services.store

    def owner(self, name: str) -> tuple[str, dict[str, str]]:
        """A further owner's id, and the headers of a request of theirs."""
        with self.services.database.write() as session:
            owner = create_owner(session, name)
            _, key = create_key(session, owner.id, "key")
        return owner.id, {"Authorization": f"Bearer {key}"}

    def further_key(self, *scopes: Scope) -> dict[str, str]:
        """The headers of a request with a further key of the first owner, which has these scopes."""
        with self.services.database.write() as session:
            _, key = create_key(session, self.owner_id, "key", scopes=frozenset(scopes))
        return {"Authorization": f"Bearer {key}"}

    def upload(
        self, collection: str, files: Mapping[str, bytes], headers: Mapping[str, str] | None = None
    ) -> str:
        """The id of an asset with these files, not complete yet."""
        reply = self.client.post(f"/v1/{collection}", json={"name": "test"}, headers=headers)
        assert reply.status_code == 201, reply.text
        asset_id = str(reply.json()["id"])
        for name, content in files.items():
            reply = self.client.put(
                f"/v1/{collection}/{asset_id}/files/{name}", content=content, headers=headers
            )
            assert reply.status_code == 204, reply.text
        return asset_id

    def declare(self, model_id: str, name: str, content: bytes, **changes: Any) -> dict[str, Any]:
        """An upload in parts of a model's file, as the service shows it."""
        file = {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        reply = self.client.post("/v1/uploads", json={"model": model_id} | file | changes)
        assert reply.status_code in (200, 201), reply.text
        shown = reply.json()
        assert isinstance(shown, dict)
        return shown

    def complete(
        self, collection: str, files: Mapping[str, bytes], headers: Mapping[str, str] | None = None
    ) -> str:
        """The id of a complete asset."""
        asset_id = self.upload(collection, files, headers)
        reply = self.client.post(f"/v1/{collection}/{asset_id}/complete", headers=headers)
        assert reply.status_code == 200, reply.text
        return asset_id

    def request(self, headers: Mapping[str, str] | None = None, **fields: Any) -> dict[str, Any]:
        """A body for POST /v1/jobs with a model and dataset of its own."""
        if "model" not in fields:
            fields["model"] = self.complete("models", model_files(), headers)
        if "dataset" not in fields:
            fields["dataset"] = self.complete("datasets", dataset_files(), headers)
        return {"target_ratio": 0.5} | fields

    def job(self, headers: Mapping[str, str] | None = None, **fields: Any) -> dict[str, Any]:
        """A queued job as the service shows it."""
        reply = self.client.post("/v1/jobs", json=self.request(headers, **fields), headers=headers)
        assert reply.status_code == 202, reply.text
        shown = reply.json()
        assert isinstance(shown, dict)
        return shown

    def claim(self) -> Claim:
        """Take the next job as a worker would."""
        with self.services.database.write() as session:
            claim = leases.claim(session, worker_id="test", queues=("cpu",), lease_seconds=60)
        assert claim is not None
        return claim

    def tell(self, claim: Claim, *events: NewEvent, **news: Any) -> None:
        """Report events as a worker would."""
        values = {"phase": "pruning", "progress": 0.5, "metrics": {}} | news
        with self.services.database.write() as session:
            leases.renew(session, claim.token, lease_seconds=60, events=events, **values)

    def finish(self, claim: Claim, files: Mapping[str, bytes], **report: Any) -> None:
        """End a job with these files as its result; `report` is added to its report."""
        records = []
        for name, content in files.items():
            stored = self.store.put([content])
            records.append(ArtifactRecord(name, stored.bytes, stored.sha256, "application/octet-stream"))
        with self.services.database.write() as session:
            leases.finish(session, claim.token, artifacts=records, report={"kind": "shrunk"} | report)

    def finished(self, files: Mapping[str, bytes], **fields: Any) -> str:
        """The id of a succeeded job with this result."""
        job_id = str(self.job(**fields)["id"])
        claim = self.claim()
        assert claim.token.job_id == job_id
        self.finish(claim, files)
        return job_id

    def count_jobs(self) -> int:
        with self.services.database.read() as session:
            return len(repository.list_jobs(session, self.owner_id, limit=100).data)


MakeSettings = Callable[..., Settings]


@pytest.fixture
def make_settings(sqlite_url: str, tmp_path: Path) -> MakeSettings:
    """Settings on an empty SQLite database, with changes."""

    def make(**changes: Any) -> Settings:
        values = {"data_dir": tmp_path / "data", "database_url": sqlite_url, "poll_seconds": 60.0}
        return Settings(**values | changes)

    return make


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    """Settings on an empty SQLite database."""
    return make_settings()


@pytest.fixture
def service(settings: Settings) -> Iterator[Service]:
    """The application, running, and its first owner's client."""
    app = create_app(settings)
    with app.state.services.database.write() as session:
        owner = create_owner(session, "first")
        _, key = create_key(session, owner.id, "key")
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        yield Service(app, client, owner.id, key)


@pytest.fixture
def with_hub(make_settings: MakeSettings, hub_server: HubServer) -> Iterator[Service]:
    """The application with a hub on loopback."""
    app = create_app(make_settings(hub_endpoint=hub_server.url))
    with app.state.services.database.write() as session:
        owner = create_owner(session, "first")
        _, key = create_key(session, owner.id, "key")
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        yield Service(app, client, owner.id, key)


def problem(reply: Any, status: int, code: str, pointer: str | None = None) -> dict[str, Any]:
    """The problem document of a refusal, after checking that it is one."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    document = reply.json()
    assert document["status"] == status
    assert document["code"] == code
    assert document["type"] == f"urn:prunery:problem:{code}"
    assert document["request_id"] == reply.headers["x-request-id"]
    assert document["detail"]
    if pointer is not None:
        assert pointer in [error["pointer"] for error in document["errors"]]
    assert isinstance(document, dict)
    return document
