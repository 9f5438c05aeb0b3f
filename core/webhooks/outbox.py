"""The outbox: messages written with the events they tell of, claimed by whoever sends them, and settled after."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import SystemRandom

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.orm import Session

from core.clock import now
from core.db.base import Json
from core.db.writes import rows_changed
from core.ids import new_id
from core.jobs.tables import Job, JobEvent
from core.settings import Settings
from core.webhooks.messages import JOB_COLUMNS, job_message, type_of
from core.webhooks.tables import DeliveryStatus, Webhook, WebhookDelivery

CLAIM_SECONDS = 30.0
"""Whoever claimed a delivery and says nothing for this long is dead; far longer than one attempt may take."""
GROWTH = 3
LONGEST_WAIT_SECONDS = 6 * 3600.0
GONE = 410

_random = SystemRandom()


@dataclass(frozen=True)
class Claim:
    """A delivery in the hands of a sender; `attempt` is the token, `at` the database's time of the claim."""

    delivery_id: str
    webhook_id: str
    attempt: int
    url: str
    secrets: Sequence[str]
    payload: Json
    at: datetime


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt: the answer's status, if there was one, and what went wrong, if anything did."""

    status: int | None = None
    error: str | None = None


def announce(session: Session, job_id: str, events: Iterable[JobEvent]) -> None:
    """Put what webhooks are to be told of these events of a job into the outbox, in the caller's transaction."""
    told = [(kind, event) for event in events if (kind := type_of(event))]
    if not told:
        return
    # Columns, not the object: the session's own may be older than what this transaction wrote.
    job = session.execute(select(*JOB_COLUMNS).where(Job.id == job_id)).mappings().one()
    # Locked as a foreign key locks: one that is being deleted is waited for and gone, not a row that is missing later.
    own = select(Webhook).where(Webhook.owner_id == job["owner_id"], Webhook.disabled_at.is_(None))
    hooks = session.scalars(own.with_for_update(read=True, key_share=True)).all()
    for kind, event in told:
        for hook in hooks:
            if kind in hook.events:
                put(session, hook, job_message(kind, job, event), event.at, job_id=job_id)


def put(
    session: Session, hook: Webhook, message: Json, at: datetime, *, job_id: str | None = None
) -> WebhookDelivery:
    """Put one message to one webhook into the outbox; it is due at once."""
    delivery = WebhookDelivery(
        id=new_id("dlv"),
        webhook_id=hook.id,
        job_id=job_id,
        type=message["type"],
        payload=message,
        due_at=at,
        created_at=at,
    )
    session.add(delivery)
    session.flush()
    return delivery


def due(session: Session, limit: int) -> list[str]:
    """Deliveries to send now: of each webhook the one due longest, unless one of its own is being sent.

    So a webhook that is slow or down keeps nobody else's waiting, and its messages come one after the other.
    """
    at = now(session)
    pending = WebhookDelivery.status == DeliveryStatus.PENDING
    busy = select(WebhookDelivery.webhook_id).where(pending, WebhookDelivery.claimed_until >= at)
    place = func.row_number().over(
        partition_by=WebhookDelivery.webhook_id, order_by=(WebhookDelivery.due_at, WebhookDelivery.id)
    )
    waiting = (
        select(WebhookDelivery.id, WebhookDelivery.due_at, place.label("place"))
        .join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
        .where(pending, WebhookDelivery.due_at <= at, Webhook.disabled_at.is_(None))
        .where(WebhookDelivery.webhook_id.not_in(busy))
        .subquery()
    )
    first = select(waiting.c.id).where(waiting.c.place == 1).order_by(waiting.c.due_at)
    return list(session.scalars(first.limit(limit)))


def claim(session: Session, delivery_id: str) -> Claim | None:
    """Take a delivery that `due` found; None when somebody else took it or it is no longer to be sent."""
    at = now(session)
    taken = (
        update(WebhookDelivery)
        .where(WebhookDelivery.id == delivery_id, *_free(at))
        .values(
            attempts=WebhookDelivery.attempts + 1,
            claimed_until=at + timedelta(seconds=CLAIM_SECONDS),
            attempted_at=at,
        )
    )
    if rows_changed(session, taken) == 0:
        return None
    query = select(WebhookDelivery, Webhook).join(Webhook, Webhook.id == WebhookDelivery.webhook_id)
    delivery, hook = session.execute(query.where(WebhookDelivery.id == delivery_id)).one()
    old = [each["secret"] for each in hook.old_secrets if datetime.fromisoformat(each["until"]) > at]
    return Claim(delivery_id, hook.id, delivery.attempts, hook.url, (hook.secret, *old), delivery.payload, at)


def settle(session: Session, claimed: Claim, outcome: Outcome, settings: Settings) -> None:
    """Write what came of an attempt, unless the delivery is no longer this claim's.

    A failure is tried again after a random wait that triples, `webhook_max_attempts` times. A webhook that
    answers 410, or at which nothing arrived for `webhook_disable_after_hours`, is disabled.
    """
    hook = session.scalars(
        select(Webhook).where(Webhook.id == claimed.webhook_id).with_for_update(key_share=True)
    ).one_or_none()
    query = select(WebhookDelivery).where(
        WebhookDelivery.id == claimed.delivery_id,
        WebhookDelivery.attempts == claimed.attempt,
        WebhookDelivery.status == DeliveryStatus.PENDING,
    )
    delivery = session.scalars(query).one_or_none()
    if hook is None or delivery is None:
        return
    at = now(session)
    delivery.claimed_until = None
    delivery.response_status, delivery.error = outcome.status, outcome.error
    if outcome.error is None:
        delivery.status, delivery.delivered_at, hook.failing_since = DeliveryStatus.DELIVERED, at, None
        return
    hook.failing_since = hook.failing_since or at
    tries = delivery.attempts - delivery.attempts_before
    delivery.due_at = at + wait(tries, settings.webhook_retry_seconds)
    if tries >= settings.webhook_max_attempts or outcome.status == GONE:
        delivery.status = DeliveryStatus.FAILED
    if outcome.status == GONE:
        disable(session, hook, "gone", at)
    elif at - hook.failing_since >= timedelta(hours=settings.webhook_disable_after_hours):
        disable(session, hook, "failing", at)


def wait(tries: int, first_seconds: float) -> timedelta:
    """How long after the failure number `tries` (from 1) the next attempt is due: between half and all of it."""
    longest = min(first_seconds * GROWTH ** (tries - 1), LONGEST_WAIT_SECONDS)
    return timedelta(seconds=_random.uniform(longest / 2, longest))


def disable(session: Session, hook: Webhook, reason: str, at: datetime) -> None:
    """Send a webhook nothing more: what is pending has failed, and can be sent again by hand."""
    hook.disabled_at, hook.disabled_reason, hook.updated_at = at, reason, at
    session.flush()
    pending = update(WebhookDelivery).where(
        WebhookDelivery.webhook_id == hook.id, WebhookDelivery.status == DeliveryStatus.PENDING
    )
    error = func.coalesce(WebhookDelivery.error, "The webhook was disabled before this was sent.")
    rows_changed(session, pending.values(status=DeliveryStatus.FAILED, claimed_until=None, error=error))


def count_pending(session: Session) -> int:
    """How many messages, of all owners, are still to be sent."""
    query = select(func.count()).select_from(WebhookDelivery)
    return session.scalars(query.where(WebhookDelivery.status == DeliveryStatus.PENDING)).one()


def forget_old(session: Session, days: float) -> int:
    """Delete the deliveries that are over and older than `days`; returns how many."""
    before = now(session) - timedelta(days=days)
    over = WebhookDelivery.status != DeliveryStatus.PENDING
    return rows_changed(session, delete(WebhookDelivery).where(WebhookDelivery.created_at < before, over))


def _free(at: datetime) -> tuple[ColumnElement[bool], ...]:
    claimed = WebhookDelivery.claimed_until
    return (
        WebhookDelivery.status == DeliveryStatus.PENDING,
        WebhookDelivery.due_at <= at,
        or_(claimed.is_(None), claimed < at),
    )
