"""Keys, limits and the audit log of the key's owner."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

from client.calls import pages
from client.replies import Reply
from client.transport import Transport


class Key(Reply):
    """An API key, without what makes it one. `last_used_at` lags behind by up to a minute."""

    id: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class NewKey(Key):
    """A key that was made just now; `key` cannot be had again."""

    key: str


class Quota(Reply):
    """How much is used of a limit; None is no limit."""

    used: int
    limit: int | None


class Account(Reply):
    """An owner, the key that asks, and the owner's limits by name."""

    owner_id: str
    owner: str
    key: Key
    quotas: dict[str, Quota]


class AuditRecord(Reply):
    """One change, or one request that was refused for a missing scope."""

    id: str
    at: datetime
    actor: str
    action: str
    object: str
    outcome: Literal["done", "denied"]
    request_id: str | None


class AccountClient:
    """`PruneryClient.account`; all but `show` need a key with the scope `admin`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def show(self) -> Account:
        """Whose key this is, what it may do, and how far the owner's limits are used."""
        return Account.model_validate_json(self._transport.request("GET", "/v1/account").content)

    def create_key(
        self, name: str, scopes: Sequence[str] = ("admin",), *, expires_at: datetime | None = None
    ) -> NewKey:
        """A key for the same owner. A lost answer may leave a key behind that nobody has: revoke it."""
        end = None if expires_at is None else expires_at.isoformat()
        body = {"name": name, "scopes": list(scopes), "expires_at": end}
        return NewKey.model_validate_json(self._transport.request("POST", "/v1/keys", json=body).content)

    def keys(self) -> Iterator[Key]:
        """Every key of the owner, newest first, revoked ones included."""
        return pages(self._transport, "/v1/keys", Key)

    def revoke_key(self, key_id: str) -> None:
        """Make a key useless, at once and for ever."""
        self._transport.request("DELETE", f"/v1/keys/{key_id}")

    def audit(self, *, action: str | None = None) -> Iterator[AuditRecord]:
        """Who changed what, newest first; `action` is one kind, such as `key.create`."""
        return pages(self._transport, "/v1/audit", AuditRecord, {"action": action} if action else None)
