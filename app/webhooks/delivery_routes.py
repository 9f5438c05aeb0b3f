"""What became of the messages to a webhook."""

from typing import Annotated

from fastapi import APIRouter, Query

from app.access import needs
from app.deps import Asker, DeliveryId, Door, WebhookId
from app.http.pagination import Cursor, Limit, Listing, listing
from app.http.problem import problems
from app.webhooks.schemas import DeliveryDetail, DeliveryView
from core.accounts.scopes import Scope
from core.audit import log as audit
from core.webhooks import repository
from core.webhooks.tables import DeliveryStatus

router = APIRouter(
    prefix="/v1/webhooks/{webhook_id}/deliveries",
    tags=["webhooks"],
    dependencies=[needs(Scope.WEBHOOKS_READ, Scope.WEBHOOKS_WRITE)],
)


@router.get(
    "",
    operation_id="list_webhook_deliveries",
    summary="List the deliveries of a webhook",
    responses=problems(401, 404, 422, 500, 503),
)
def list_deliveries(
    services: Door,
    caller: Asker,
    webhook_id: WebhookId,
    cursor: Cursor,
    status: Annotated[DeliveryStatus | None, Query(description="Only deliveries in this state.")] = None,
    limit: Limit = 20,
) -> Listing[DeliveryView]:
    """Every message to the webhook, newest first, for PRUNERY_WEBHOOK_RETENTION_DAYS."""
    with services.database.read() as session:
        page = repository.list_deliveries(
            session, caller.owner_id, webhook_id, status=status, cursor=cursor, limit=limit
        )
    return listing(page, DeliveryView.of)


@router.get(
    "/{delivery_id}",
    operation_id="get_webhook_delivery",
    summary="Get a delivery",
    responses=problems(401, 404, 422, 500, 503),
)
def get_delivery(
    services: Door, caller: Asker, webhook_id: WebhookId, delivery_id: DeliveryId
) -> DeliveryDetail:
    """One message with its content, and what became of it."""
    with services.database.read() as session:
        delivery = repository.get_delivery(session, caller.owner_id, webhook_id, delivery_id)
    return DeliveryDetail.of(delivery)


@router.post(
    "/{delivery_id}/redeliver",
    status_code=202,
    operation_id="redeliver_webhook_delivery",
    summary="Send a message again",
    responses=problems(401, 404, 409, 422, 500, 503),
)
def redeliver(services: Door, caller: Asker, webhook_id: WebhookId, delivery_id: DeliveryId) -> DeliveryView:
    """Send it now, delivered or not, with the same content and `webhook-id`."""
    with services.database.write() as session:
        audit.record(session, caller, "webhook.redeliver", delivery_id)
        return DeliveryView.of(repository.redeliver(session, caller.owner_id, webhook_id, delivery_id))
