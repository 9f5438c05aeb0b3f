"""What is asked of webhooks, and how they and their deliveries are shown."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field

from app.http.payload import Payload
from core.webhooks.guard import MAX_LENGTH
from core.webhooks.messages import EVENT_TYPES, JOB_STATES
from core.webhooks.tables import DeliveryStatus, Webhook, WebhookDelivery


def _known(events: list[str]) -> list[str]:
    if unknown := sorted(set(events) - set(EVENT_TYPES)):
        raise ValueError(f"There is no {', '.join(unknown)}; choose of {', '.join(EVENT_TYPES)}.")
    return sorted(set(events), key=EVENT_TYPES.index)


Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_LENGTH,
        description="A public https:// address; it is told by POST.",
        examples=["https://example.com/prunery"],
    ),
]
Description = Annotated[str, Field(max_length=255, description="For you, to tell webhooks apart.")]
Events = Annotated[
    list[str],
    Field(
        min_length=1,
        max_length=len(EVENT_TYPES),
        description="What it is told.",
        json_schema_extra={"items": {"type": "string", "enum": list(EVENT_TYPES)}},
    ),
    AfterValidator(_known),
]


class NewWebhook(Payload):
    """A webhook to be made."""

    url: Url
    events: Events = Field(default=list(JOB_STATES))
    description: Description = ""


class WebhookChanges(Payload):
    """What is to change; what is left out stays."""

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None
    enabled: bool | None = Field(
        default=None, description="True also ends what disabled it; false drops what is pending."
    )


class Rotation(Payload):
    """How to change to a new secret."""

    overlap_hours: float = Field(
        default=24,
        ge=0,
        le=168,
        description="How long the secrets before it sign too; 0 for one that leaked.",
    )


class WebhookView(BaseModel):
    """An address that is told what happens to jobs."""

    id: str
    url: str
    description: str
    events: list[str]
    enabled: bool
    disabled_reason: Literal["owner", "gone", "failing"] | None = Field(
        description="`gone`: it answered 410; `failing`: nothing arrived for PRUNERY_WEBHOOK_DISABLE_AFTER_HOURS."
    )
    failing_since: datetime | None = Field(description="The first failure after the last success.")
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, hook: Webhook) -> "WebhookView":
        """A row as clients see it."""
        return cls.model_validate(_fields(hook))


class WebhookSecret(WebhookView):
    """A webhook with its secret, which is shown this once."""

    secret: str = Field(description="`whsec_...`, for any library of Standard Webhooks.")

    @classmethod
    def of(cls, hook: Webhook) -> "WebhookSecret":
        """A row with its secret."""
        return cls.model_validate(_fields(hook) | {"secret": hook.secret})


class DeliveryView(BaseModel):
    """One message to one webhook."""

    id: str = Field(description="Sent as `webhook-id`, the same in every attempt.")
    type: str
    job_id: str | None
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime | None = Field(description="Null when none follows.")
    response_status: int | None = Field(description="HTTP status of the last answer.")
    error: str | None = Field(description="Why the last attempt failed.")
    created_at: datetime
    attempted_at: datetime | None
    delivered_at: datetime | None

    @classmethod
    def of(cls, delivery: WebhookDelivery) -> "DeliveryView":
        """A row as clients see it."""
        return cls.model_validate(_delivery_fields(delivery))


class DeliveryDetail(DeliveryView):
    """One message with its content."""

    payload: dict[str, Any] = Field(description="The body that is sent.")

    @classmethod
    def of(cls, delivery: WebhookDelivery) -> "DeliveryDetail":
        """A row with the message."""
        return cls.model_validate(_delivery_fields(delivery) | {"payload": delivery.payload})


def _fields(hook: Webhook) -> dict[str, Any]:
    names = (
        "id",
        "url",
        "description",
        "events",
        "disabled_reason",
        "failing_since",
        "created_at",
        "updated_at",
    )
    return {name: getattr(hook, name) for name in names} | {"enabled": hook.disabled_at is None}


def _delivery_fields(delivery: WebhookDelivery) -> dict[str, Any]:
    names = ("id", "type", "job_id", "status", "attempts", "response_status", "error")
    moments = ("created_at", "attempted_at", "delivered_at")
    pending = delivery.status is DeliveryStatus.PENDING
    return {name: getattr(delivery, name) for name in names + moments} | {
        "next_attempt_at": delivery.due_at if pending else None
    }
