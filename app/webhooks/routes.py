"""Webhooks: make, read, list, change, delete; a new secret; a test message."""

from datetime import timedelta

from fastapi import APIRouter, Request, Response

from app.access import needs
from app.deps import Asker, Door, JsonBody, WebhookId
from app.http.links import base_url
from app.http.pagination import Cursor, Limit, Listing, listing
from app.http.problem import problems
from app.webhooks.schemas import (
    DeliveryView,
    NewWebhook,
    Rotation,
    WebhookChanges,
    WebhookSecret,
    WebhookView,
)
from core.accounts.scopes import Scope
from core.audit import log as audit
from core.webhooks import repository
from core.webhooks.sender import TOTAL_SECONDS

router = APIRouter(
    prefix="/v1/webhooks", tags=["webhooks"], dependencies=[needs(Scope.WEBHOOKS_READ, Scope.WEBHOOKS_WRITE)]
)


@router.post(
    "",
    status_code=201,
    operation_id="create_webhook",
    summary="Add a webhook",
    dependencies=[JsonBody],
    responses=problems(400, 401, 409, 413, 415, 422, 500, 503),
)
def create_webhook(
    request: Request, response: Response, services: Door, caller: Asker, body: NewWebhook
) -> WebhookSecret:
    """Tell an address of what happens to your jobs from now on. The secret is in this answer and in no other."""
    services.guard.check(body.url, TOTAL_SECONDS)
    with services.database.write() as session:
        hook = repository.create(session, caller.owner_id, body.url, body.events, body.description)
        audit.record(session, caller, "webhook.create", hook.id)
        view = WebhookSecret.of(hook)
    response.headers["Location"] = f"{base_url(request, services.settings)}/v1/webhooks/{hook.id}"
    return view


@router.get("", operation_id="list_webhooks", summary="List webhooks", responses=problems(401, 422, 500, 503))
def list_webhooks(services: Door, caller: Asker, cursor: Cursor, limit: Limit = 20) -> Listing[WebhookView]:
    """The caller's webhooks, newest first."""
    with services.database.read() as session:
        page = repository.list_webhooks(session, caller.owner_id, cursor=cursor, limit=limit)
    return listing(page, WebhookView.of)


@router.get(
    "/{webhook_id}",
    operation_id="get_webhook",
    summary="Get a webhook",
    responses=problems(401, 404, 422, 500, 503),
)
def get_webhook(services: Door, caller: Asker, webhook_id: WebhookId) -> WebhookView:
    """The webhook, without its secret."""
    with services.database.read() as session:
        return WebhookView.of(repository.get(session, caller.owner_id, webhook_id))


@router.patch(
    "/{webhook_id}",
    operation_id="update_webhook",
    summary="Change a webhook",
    dependencies=[JsonBody],
    responses=problems(400, 401, 404, 409, 413, 415, 422, 500, 503),
)
def update_webhook(services: Door, caller: Asker, webhook_id: WebhookId, body: WebhookChanges) -> WebhookView:
    """Change the fields that are sent. Messages already in the outbox go to the new address too."""
    changes = body.model_dump(exclude_none=True)
    with services.database.read() as session:
        repository.get(session, caller.owner_id, webhook_id)
    if body.url is not None:
        services.guard.check(body.url, TOTAL_SECONDS)
    with services.database.write() as session:
        audit.record(session, caller, "webhook.update", webhook_id)
        return WebhookView.of(repository.update(session, caller.owner_id, webhook_id, **changes))


@router.delete(
    "/{webhook_id}",
    status_code=204,
    operation_id="delete_webhook",
    summary="Delete a webhook",
    responses=problems(401, 404, 422, 500, 503),
)
def delete_webhook(services: Door, caller: Asker, webhook_id: WebhookId) -> None:
    """Forget the webhook, and what it was still to be told."""
    with services.database.write() as session:
        repository.delete(session, caller.owner_id, webhook_id)
        audit.record(session, caller, "webhook.delete", webhook_id)


@router.post(
    "/{webhook_id}/rotate-secret",
    operation_id="rotate_webhook_secret",
    summary="Change the secret",
    responses=problems(400, 401, 404, 413, 422, 500, 503),
)
def rotate_webhook_secret(
    services: Door, caller: Asker, webhook_id: WebhookId, body: Rotation | None = None
) -> WebhookSecret:
    """A new secret, shown this once; for `overlap_hours` messages are signed with the old ones as well."""
    overlap = timedelta(hours=(body or Rotation()).overlap_hours)
    with services.database.write() as session:
        audit.record(session, caller, "webhook.rotate", webhook_id)
        return WebhookSecret.of(repository.rotate_secret(session, caller.owner_id, webhook_id, overlap))


@router.post(
    "/{webhook_id}/ping",
    status_code=202,
    operation_id="ping_webhook",
    summary="Send a test message",
    responses=problems(401, 404, 409, 422, 500, 503),
)
def ping_webhook(services: Door, caller: Asker, webhook_id: WebhookId) -> DeliveryView:
    """Send `webhook.ping`, in the way of every other message; its delivery says what came of it."""
    with services.database.write() as session:
        audit.record(session, caller, "webhook.ping", webhook_id)
        return DeliveryView.of(repository.ping(session, caller.owner_id, webhook_id))
