"""Webhooks as their owner sees them: make, change, rotate the secret, look up deliveries, send them again."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TypedDict, Unpack

from sqlalchemy import Select, func, select
from sqlalchemy import delete as sql_delete
from sqlalchemy.orm import Session

from core.accounts.tables import Owner
from core.clock import now, rfc3339
from core.db.pages import Page, paginate
from core.errors import Conflict, NotFound
from core.ids import new_id
from core.webhooks import outbox
from core.webhooks.messages import PING, message
from core.webhooks.signing import make_secret
from core.webhooks.tables import DeliveryStatus, Webhook, WebhookDelivery

MAX_WEBHOOKS = 20
MAX_OLD_SECRETS = 4


class Changes(TypedDict, total=False):
    """What an owner may change of a webhook; what is left out stays."""

    url: str
    description: str
    events: list[str]
    enabled: bool


def create(session: Session, owner_id: str, url: str, events: Sequence[str], description: str) -> Webhook:
    """A webhook with a new secret; raises Conflict when the owner has this address already, or too many."""
    session.scalars(select(Owner.id).where(Owner.id == owner_id).with_for_update(key_share=True)).one()
    _refuse_second(session, owner_id, url)
    count = session.scalars(select(func.count()).select_from(_own(owner_id).subquery())).one()
    if count >= MAX_WEBHOOKS:
        raise Conflict(f"An owner may have {MAX_WEBHOOKS} webhooks; delete one first.", code="too_many")
    at = now(session)
    hook = Webhook(
        id=new_id("whk"),
        owner_id=owner_id,
        url=url,
        description=description,
        events=list(events),
        secret=make_secret(),
        created_at=at,
        updated_at=at,
    )
    session.add(hook)
    session.flush()
    return hook


def get(session: Session, owner_id: str, webhook_id: str, *, lock: bool = False) -> Webhook:
    """The owner's webhook; raises NotFound."""
    query = _own(owner_id).where(Webhook.id == webhook_id)
    hook = session.scalars(query.with_for_update(key_share=True) if lock else query).one_or_none()
    if hook is None:
        raise NotFound(f"There is no webhook {webhook_id}.")
    return hook


def list_webhooks(session: Session, owner_id: str, *, cursor: str | None, limit: int) -> Page[Webhook]:
    """The owner's webhooks, newest first."""
    return paginate(session, _own(owner_id), Webhook.id, cursor=cursor, limit=limit)


def update(session: Session, owner_id: str, webhook_id: str, **changes: Unpack[Changes]) -> Webhook:
    """Change a webhook; enabling one forgets why it was disabled. Raises NotFound, Conflict."""
    hook, at = get(session, owner_id, webhook_id, lock=True), now(session)
    if (url := changes.get("url", hook.url)) != hook.url:
        _refuse_second(session, owner_id, url)
        hook.url = url
    hook.description = changes.get("description", hook.description)
    hook.events = changes.get("events", hook.events)
    enabled = changes.get("enabled")
    if enabled is True:
        hook.disabled_at = hook.disabled_reason = hook.failing_since = None
    elif enabled is False and hook.disabled_at is None:
        outbox.disable(session, hook, "owner", at)
    hook.updated_at = at
    session.flush()
    return hook


def rotate_secret(session: Session, owner_id: str, webhook_id: str, overlap: timedelta) -> Webhook:
    """Give a webhook a new secret; those before sign beside it until `overlap` is over. Raises NotFound.

    Without an overlap they are void at once, those of earlier rotations too: it is for a secret that leaked.
    """
    hook, at = get(session, owner_id, webhook_id, lock=True), now(session)
    before = [each for each in hook.old_secrets if datetime.fromisoformat(each["until"]) > at]
    before = [{"secret": hook.secret, "until": rfc3339(at + overlap)}, *before]
    hook.old_secrets = before[:MAX_OLD_SECRETS] if overlap else []
    hook.secret, hook.updated_at = make_secret(), at
    session.flush()
    return hook


def delete(session: Session, owner_id: str, webhook_id: str) -> None:
    """Forget a webhook and its deliveries; raises NotFound."""
    hook = get(session, owner_id, webhook_id, lock=True)
    session.execute(sql_delete(WebhookDelivery).where(WebhookDelivery.webhook_id == hook.id))
    session.delete(hook)


def ping(session: Session, owner_id: str, webhook_id: str) -> WebhookDelivery:
    """Put a message that says nothing into the outbox; raises NotFound, or Conflict when it is disabled."""
    hook, at = _enabled(session, owner_id, webhook_id), now(session)
    return outbox.put(session, hook, message(PING, at, {"webhook": hook.id}), at)


def list_deliveries(
    session: Session,
    owner_id: str,
    webhook_id: str,
    *,
    status: DeliveryStatus | None = None,
    cursor: str | None = None,
    limit: int = 20,
) -> Page[WebhookDelivery]:
    """The deliveries of a webhook, newest first; raises NotFound."""
    hook = get(session, owner_id, webhook_id)
    query = select(WebhookDelivery).where(WebhookDelivery.webhook_id == hook.id)
    if status is not None:
        query = query.where(WebhookDelivery.status == status)
    return paginate(session, query, WebhookDelivery.id, cursor=cursor, limit=limit)


def get_delivery(session: Session, owner_id: str, webhook_id: str, delivery_id: str) -> WebhookDelivery:
    """A delivery of the owner's webhook; raises NotFound."""
    hook = get(session, owner_id, webhook_id)
    query = select(WebhookDelivery).where(
        WebhookDelivery.id == delivery_id, WebhookDelivery.webhook_id == hook.id
    )
    delivery = session.scalars(query).one_or_none()
    if delivery is None:
        raise NotFound(f"There is no delivery {delivery_id} of {webhook_id}.")
    return delivery


def redeliver(session: Session, owner_id: str, webhook_id: str, delivery_id: str) -> WebhookDelivery:
    """Send a message again, now and with the same id, whatever became of it; its retries begin anew.

    One that is being sent at this moment is not sent beside that. Raises NotFound, or Conflict when the webhook is
    disabled.
    """
    _enabled(session, owner_id, webhook_id)
    delivery = get_delivery(session, owner_id, webhook_id, delivery_id)
    delivery.status, delivery.due_at = DeliveryStatus.PENDING, now(session)
    delivery.attempts_before, delivery.delivered_at = delivery.attempts, None
    session.flush()
    return delivery


def _own(owner_id: str) -> Select[Webhook]:
    return select(Webhook).where(Webhook.owner_id == owner_id)


def _enabled(session: Session, owner_id: str, webhook_id: str) -> Webhook:
    hook = get(session, owner_id, webhook_id, lock=True)
    if hook.disabled_at is not None:
        raise Conflict(f"{webhook_id} is disabled; enable it first.", code="disabled")
    return hook


def _refuse_second(session: Session, owner_id: str, url: str) -> None:
    found = session.scalars(_own(owner_id).where(Webhook.url == url)).one_or_none()
    if found is not None:
        raise Conflict(f"{found.id} has this address already; change that one.", param="/url", code="exists")
