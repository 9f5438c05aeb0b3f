"""A key can do what its scopes say and nothing else, and every route says which it needs."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from sqlalchemy import event, update

from app.access import declared, needs, require_declared
from core.accounts import repository
from core.accounts.keys import make_key
from core.accounts.scopes import Scope
from core.accounts.tables import ApiKey
from core.clock import now
from core.db import Database
from tests.app.conftest import MakeSettings, Service, problem

NOTHING = "0" * 26
PREFIXES = {
    "job_id": "job",
    "upload_id": "upl",
    "model_id": "mdl",
    "dataset_id": "dst",
    "artifact_id": "art",
    "key_id": "key",
    "webhook_id": "whk",
    "delivery_id": "dlv",
}


OWN_THREADS = {"courier", "reconciler", "last-use", "doorbell"}
"""Threads of the application that look at the database whether anybody asks or not."""


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """The SQL that the block sends, without that of the service's own threads."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if threading.current_thread().name not in OWN_THREADS:
            sent.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def test_every_route_refuses_a_key_without_its_scope_and_takes_one_with_it(service: Service) -> None:
    headers = {scope: service.further_key(scope) for scope in Scope}
    walked = set()
    for path, method, scopes in declared(service.app):
        url = re.sub(r"{(\w+_id)}", lambda match: f"{PREFIXES[match[1]]}_{NOTHING}", path)
        url = url.replace("{name}", "config.json" if "models" in path else "train.jsonl")
        for scope in scopes or []:
            others = set(Scope) - {scope, Scope.ADMIN}
            wrong = service.client.request(method, url, headers=headers[min(others)])
            assert problem(wrong, 403, "insufficient_scope")["scope"] == scope
            right = service.client.request(method, url, headers=headers[scope])
            assert right.status_code != 403, (method, path)
            walked.add(scope)
    assert walked == set(Scope)
    denied = service.client.get("/v1/audit", params={"limit": 100}).json()["data"]
    assert {record["outcome"] for record in denied} == {"denied"}
    assert {"needs.admin", "needs.jobs:write"} <= {record["action"] for record in denied}
    assert f"DELETE /v1/keys/key_{NOTHING}" in {record["object"] for record in denied}


def test_an_application_with_a_route_that_says_nothing_does_not_start() -> None:
    app = FastAPI()
    app.include_router(APIRouter(dependencies=[needs(Scope.JOBS_READ)]))
    require_declared(app)
    silent = APIRouter()
    silent.get("/silent")(lambda: None)
    app.include_router(silent)
    with pytest.raises(LookupError, match="GET /silent"):
        require_declared(app)


def test_a_router_that_only_reads_cannot_get_a_writing_route() -> None:
    app, router = FastAPI(), APIRouter(dependencies=[needs(Scope.JOBS_READ)])
    router.delete("/things")(lambda: None)
    app.include_router(router)
    with pytest.raises(LookupError, match="DELETE"):
        require_declared(app)


def test_a_text_that_is_no_key_costs_no_query(service: Service) -> None:
    with statements(service.services.database) as sent:
        for text in ("nonsense", "prn_live_" + "a" * 49, make_key()[:-1] + "_"):
            reply = service.client.get("/v1/account", headers={"Authorization": f"Bearer {text}"})
            problem(reply, 401, "unauthorized")
        assert not any(
            "api_keys" in statement for statement in sent
        )  # threads beside have queries of their own
        service.client.get("/v1/account", headers={"Authorization": f"Bearer {make_key()}"})
    assert len([statement for statement in sent if "api_keys" in statement]) == 1


def test_keys_that_ended_are_refused_like_unknown_ones(service: Service) -> None:
    database = service.services.database
    with database.write() as session:
        later = now(session) + timedelta(hours=1)
        expiring, first = repository.create_key(session, service.owner_id, "x", expires_at=later)
        revoked, second = repository.create_key(session, service.owner_id, "y")
    keys = [{"Authorization": f"Bearer {key}"} for key in (first, second, make_key())]
    assert [service.client.get("/v1/methods", headers=key).status_code for key in keys] == [200, 200, 401]
    with database.write() as session:
        repository.revoke_key(session, service.owner_id, revoked.id)
        past = now(session) - timedelta(seconds=1)
        session.execute(update(ApiKey).where(ApiKey.id == expiring.id).values(expires_at=past))
    refusals = [service.client.get("/v1/methods", headers=key) for key in keys]
    details = {problem(reply, 401, "unauthorized")["detail"] for reply in refusals}
    assert details == {"The API key is not valid."}
    assert all(reply.headers["www-authenticate"] == 'Bearer realm="prunery"' for reply in refusals)


def test_the_last_use_of_a_key_is_written_apart_from_its_requests(service: Service) -> None:
    with statements(service.services.database) as sent:
        for _ in range(3):
            shown = service.client.get("/v1/account").json()
    assert shown["key"]["last_used_at"] is None
    assert not any(statement.startswith("UPDATE") for statement in sent)
    with statements(service.services.database) as sent:
        service.services.last_use.write()
        service.services.last_use.write()
    assert len([statement for statement in sent if statement.startswith("UPDATE")]) == 1
    assert service.client.get("/v1/account").json()["key"]["last_used_at"] is not None


def test_metrics_need_a_scope_unless_they_are_public(service: Service, make_settings: MakeSettings) -> None:
    problem(
        service.client.get("/metrics", headers=service.further_key(Scope.JOBS_READ)),
        403,
        "insufficient_scope",
    )
    reply = service.client.get("/metrics", headers=service.further_key(Scope.OPERATIONS_READ))
    assert reply.status_code == 200
    assert "prunery_rate_limit_fallbacks_total 0.0" in reply.text
