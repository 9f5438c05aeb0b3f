"""How API keys are made and shown."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field, StringConstraints

from app.http.payload import Payload
from core.accounts.scopes import Scope, from_text
from core.accounts.tables import ApiKey

KeyName = Annotated[str, StringConstraints(min_length=1, max_length=128, strip_whitespace=True)]


def _moment(value: Any) -> Any:
    """Text is a moment; a number of seconds is none in JSON."""
    if isinstance(value, int | float):
        raise ValueError("Write the moment as in RFC 3339, such as 2031-05-01T12:00:00Z.")
    return value


class NewKey(Payload):
    """A key to be made."""

    name: KeyName = Field(description="What it is for, to tell it from others.", examples=["ci"])
    scopes: list[Annotated[Scope, Field(strict=False)]] = Field(
        default=[Scope.ADMIN],
        min_length=1,
        max_length=len(Scope),
        description="What it may do; `admin` includes all the others.",
        examples=[["jobs:read", "jobs:write"]],
    )
    expires_at: Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_moment)] | None = Field(
        default=None, description="When it ends; null: never."
    )


class KeyView(BaseModel):
    """A key, without what makes it one."""

    id: str
    name: str
    prefix: str = Field(description="How the key begins.")
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = Field(description="Lags behind by up to a minute.")
    revoked_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey) -> "KeyView":
        """The view of a key."""
        return cls.model_validate(_shown(key))


class CreatedKey(KeyView):
    """A new key with its text, which cannot be had again."""

    key: str = Field(description="Send it as `Authorization: Bearer ...`; only its hash is kept here.")

    @classmethod
    def made(cls, key: ApiKey, plaintext: str) -> "CreatedKey":
        """The view of a key that was made just now."""
        return cls.model_validate(_shown(key) | {"key": plaintext})


def _shown(key: ApiKey) -> dict[str, object]:
    names = ("id", "name", "prefix", "created_at", "expires_at", "last_used_at", "revoked_at")
    return {name: getattr(key, name) for name in names} | {"scopes": sorted(from_text(key.scopes))}
