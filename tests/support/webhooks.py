"""Webhooks in the ledger, and what they are to be told."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.webhooks import repository
from core.webhooks.messages import JOB_STATES
from core.webhooks.tables import Webhook, WebhookDelivery


def make_hook(session: Session, owner_id: str, events: Sequence[str] = JOB_STATES, path: str = "") -> Webhook:
    """A webhook at an address of its own."""
    return repository.create(session, owner_id, f"https://hooks.example/{path}", events, "")


def deliveries(session: Session, **columns: Any) -> list[WebhookDelivery]:
    """Every delivery with these values, in order."""
    return list(session.scalars(select(WebhookDelivery).filter_by(**columns).order_by(WebhookDelivery.id)))
