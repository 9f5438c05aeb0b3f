"""What the API listens on and reaches: addresses, logs, the hub, webhooks."""

from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings


def _networks(text: str | None) -> str | None:
    for network in (text or "").split(","):
        if network.strip():
            ip_network(network.strip())
    return text


class Serving(BaseSettings):
    """Settings of the API, and of what it sends for."""

    host: str = Field(default="127.0.0.1", description="Address that the API listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port that the API listens on.")
    public_url: str | None = Field(
        default=None, description="Base of the links in replies; default: as the client asked."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severe message that is logged."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="One line of text, or one JSON object, per log record."
    )
    metrics_public: bool = Field(default=False, description="Whether `GET /metrics` needs no API key.")

    hub_enabled: bool = Field(
        default=True, description="Whether requests may name models and datasets of the hub."
    )
    hub_endpoint: str = Field(default="https://huggingface.co", description="Address of the hub.")
    hub_token: SecretStr | None = Field(
        default=None, description="Token for the hub's private and gated repositories."
    )

    webhook_allow_http: bool = Field(
        default=False, description="Whether webhooks may have `http://` addresses; for development."
    )
    webhook_allow_networks: Annotated[str | None, AfterValidator(_networks)] = Field(
        default=None,
        description="Networks that webhooks may reach beside public addresses, such as `10.1.0.0/16,fd00::/8`.",
    )
    webhook_retry_seconds: float = Field(
        default=10,
        gt=0,
        description="Wait after the first failure of a delivery, tripled each time up to 6 hours.",
    )
    webhook_max_attempts: int = Field(
        default=12, ge=1, le=30, description="Attempts of one delivery before it has failed."
    )
    webhook_disable_after_hours: float = Field(
        default=72, gt=0, description="A webhook of which every attempt failed for this long is switched off."
    )
    webhook_retention_days: float = Field(
        default=14, gt=0, description="How long deliveries that are over can be looked up and sent again."
    )
