"""Keys over HTTP: shown once, restricted, revoked."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.accounts.keys import is_well_formed
from core.accounts.scopes import Scope
from tests.app.conftest import Service, problem


def made(service: Service, **fields: Any) -> dict[str, Any]:
    """A new key as the reply to its making shows it."""
    reply = service.client.post("/v1/keys", json={"name": "ci"} | fields)
    assert reply.status_code == 201, reply.text
    assert reply.headers["location"].endswith(f"/v1/keys/{reply.json()['id']}")
    assert reply.headers["cache-control"] == "no-store"
    shown = reply.json()
    assert isinstance(shown, dict)
    return shown


def test_a_key_is_shown_once_works_and_is_revoked(service: Service) -> None:
    new = made(service, scopes=["jobs:write", "jobs:read"])
    key = new.pop("key")
    assert is_well_formed(key)
    assert new["scopes"] == ["jobs:read", "jobs:write"]
    headers = {"Authorization": f"Bearer {key}"}
    assert service.client.get("/v1/jobs", headers=headers).status_code == 200
    problem(service.client.get("/v1/models", headers=headers), 403, "insufficient_scope")
    listed = service.client.get("/v1/keys")
    assert key not in listed.text
    assert listed.json()["data"][0]["id"] == new["id"]
    assert service.client.get(f"/v1/keys/{new['id']}").json()["prefix"] == key[:15]
    for _ in range(2):
        assert service.client.delete(f"/v1/keys/{new['id']}").status_code == 204
    problem(service.client.get("/v1/jobs", headers=headers), 401, "unauthorized")
    assert service.client.get(f"/v1/keys/{new['id']}").json()["revoked_at"] is not None


def test_a_key_may_expire(service: Service) -> None:
    end = datetime.now(UTC) + timedelta(days=1)
    assert datetime.fromisoformat(made(service, expires_at=end.isoformat())["expires_at"]) == end


@pytest.mark.parametrize(
    ("wrong", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["jobs:steal"]}, "/scopes/0"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "2099-01-01T00:00:00"}, "/expires_at"),
        ({"owner": "other"}, "/owner"),
    ],
)
def test_keys_that_cannot_be_made(service: Service, wrong: dict[str, Any], pointer: str) -> None:
    reply = service.client.post("/v1/keys", json={"name": "ci"} | wrong)
    problem(reply, 422, "invalid_request", pointer)
    assert len(service.client.get("/v1/keys").json()["data"]) == 1


def test_an_account_says_who_asks_and_how_far_its_limits_are_used(service: Service) -> None:
    service.job()
    account = service.client.get("/v1/account", headers=service.further_key(Scope.MODELS_READ)).json()
    assert (account["owner"], account["owner_id"]) == ("first", service.owner_id)
    assert account["key"]["scopes"] == ["models:read"]
    assert account["quotas"]["queued_jobs"] == {"used": 1, "limit": 1000}
    assert account["quotas"]["running_jobs"] == {"used": 0, "limit": None}
    assert account["quotas"]["stored_bytes"]["used"] > 1000
