"""Webhooks as methods: `PruneryClient().webhooks`."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from client.calls import pages
from client.replies import Reply
from client.transport import Transport


class Webhook(Reply):
    """An address that is told what happens to jobs; `disabled_reason` is owner, gone or failing."""

    id: str
    url: str
    description: str
    events: tuple[str, ...]
    enabled: bool
    disabled_reason: str | None
    failing_since: datetime | None
    created_at: datetime
    updated_at: datetime


class WebhookSecret(Webhook):
    """A webhook with its secret, which the service shows this once."""

    secret: str = Field(repr=False)


class WebhookDelivery(Reply):
    """One message to a webhook; `id` is sent as `webhook-id`, `status` is pending, delivered or failed."""

    id: str
    type: str
    job_id: str | None
    status: Literal["pending", "delivered", "failed"]
    attempts: int
    next_attempt_at: datetime | None
    response_status: int | None
    error: str | None
    created_at: datetime
    attempted_at: datetime | None
    delivered_at: datetime | None


class Webhooks:
    """The webhooks of the owner; every method raises as those of `PruneryClient` do.

    A receiver checks what it gets with any library of Standard Webhooks and the secret that `create` returns.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self, url: str, *, events: Sequence[str] | None = None, description: str = ""
    ) -> WebhookSecret:
        """Tell an https:// address of what happens to jobs, by default of every state; the secret is shown once."""
        body: dict[str, Any] = {"url": url, "description": description}
        if events is not None:
            body["events"] = list(events)
        reply = self._transport.request("POST", "/v1/webhooks", json=body)
        return WebhookSecret.model_validate_json(reply.content)

    def all(self) -> Iterator[Webhook]:
        """Every webhook, newest first."""
        return pages(self._transport, "/v1/webhooks", Webhook)

    def get(self, webhook_id: str) -> Webhook:
        """One webhook."""
        return Webhook.model_validate_json(self._transport.request("GET", _path(webhook_id)).content)

    def update(self, webhook_id: str, **changes: Any) -> Webhook:
        """Change `url`, `events`, `description` or `enabled`; what is left out stays."""
        reply = self._transport.request("PATCH", _path(webhook_id), json=changes)
        return Webhook.model_validate_json(reply.content)

    def rotate_secret(self, webhook_id: str, *, overlap_hours: float = 24) -> WebhookSecret:
        """A new secret; messages are signed with the old one as well until `overlap_hours` are over."""
        path = _path(webhook_id, "rotate-secret")
        reply = self._transport.request("POST", path, json={"overlap_hours": overlap_hours})
        return WebhookSecret.model_validate_json(reply.content)

    def ping(self, webhook_id: str) -> WebhookDelivery:
        """Send a test message."""
        reply = self._transport.request("POST", _path(webhook_id, "ping"))
        return WebhookDelivery.model_validate_json(reply.content)

    def delete(self, webhook_id: str) -> None:
        """Delete a webhook, and what it was still to be told."""
        self._transport.request("DELETE", _path(webhook_id))

    def deliveries(self, webhook_id: str, *, status: str | None = None) -> Iterator[WebhookDelivery]:
        """The messages to a webhook, newest first, in all states or one: pending, delivered, failed."""
        filters = None if status is None else {"status": status}
        return pages(self._transport, _path(webhook_id, "deliveries"), WebhookDelivery, filters)

    def redeliver(self, webhook_id: str, delivery_id: str) -> WebhookDelivery:
        """Send a message again, whatever became of it."""
        reply = self._transport.request("POST", _path(webhook_id, "deliveries", delivery_id, "redeliver"))
        return WebhookDelivery.model_validate_json(reply.content)


def _path(*parts: str) -> str:
    return "/".join(("/v1/webhooks", *parts))
