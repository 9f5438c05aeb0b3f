"""Tables of webhooks and of their deliveries, which are the outbox."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import JSON, Enum, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.base import Base, Json


class DeliveryStatus(StrEnum):
    """The state of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


_STATUS = Enum(
    DeliveryStatus,
    native_enum=False,
    length=16,
    create_constraint=True,
    name="status",
    values_callable=lambda states: [state.value for state in states],
)
_PENDING = "status = 'pending'"


class Webhook(Base):
    """An address that is told what happens to its owner's jobs.

    `secret` signs, so it is kept as it is; `old_secrets`, each with the moment `until` which it is valid, sign
    beside it after a rotation. `failing_since` is the first failure after the last success. Disabled, it has a
    `disabled_reason`: `owner`, `gone` (it answered 410) or `failing`.
    """

    __tablename__ = "webhooks"
    __table_args__ = (UniqueConstraint("owner_id", "url"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("owners.id"))
    url: Mapped[str] = mapped_column(String(2048))
    description: Mapped[str] = mapped_column(String(255))
    events: Mapped[list[str]] = mapped_column(JSON(none_as_null=True))
    secret: Mapped[str] = mapped_column(String(128))
    old_secrets: Mapped[list[Json]] = mapped_column(JSON(none_as_null=True), default=list)
    failing_since: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    disabled_reason: Mapped[str | None] = mapped_column(String(16))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class WebhookDelivery(Base):
    """One message to one webhook, written in the transaction of the event that it tells of.

    `attempts` grows with every attempt and is its fencing token; `attempts_before` are those before it was last
    sent anew by hand. Who sends it holds it until `claimed_until`. `error` says why the last attempt failed.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        Index(
            "ix_webhook_deliveries_due_at",
            "due_at",
            sqlite_where=text(_PENDING),
            postgresql_where=text(_PENDING),
        ),
        Index("ix_webhook_deliveries_webhook_id_id", "webhook_id", "id"),
        Index("ix_webhook_deliveries_created_at", "created_at"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    job_id: Mapped[str | None] = mapped_column(String(32))
    type: Mapped[str] = mapped_column(String(64))
    payload: Mapped[Json]
    status: Mapped[DeliveryStatus] = mapped_column(_STATUS, default=DeliveryStatus.PENDING)
    attempts: Mapped[int] = mapped_column(default=0)
    attempts_before: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime]
    claimed_until: Mapped[datetime | None]
    response_status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(String(500))
    created_at: Mapped[datetime]
    attempted_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
