"""Tables of owners and their keys, and of the device time that owners used."""

from datetime import date, datetime

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from core.accounts.scopes import Scope
from core.db.base import Base


class Owner(Base):
    """Who models, datasets and jobs belong to. A limit that is null is the one of the settings.

    `recent_use` is what `core.jobs.shares` makes of their jobs' time.
    """

    __tablename__ = "owners"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    recent_use: Mapped[float] = mapped_column(default=0.0, server_default="0")
    created_at: Mapped[datetime]
    max_queued_jobs: Mapped[int | None]
    max_running_jobs: Mapped[int | None]
    max_stored_bytes: Mapped[int | None]
    max_device_seconds: Mapped[int | None]


class ApiKey(Base):
    """A key by its SHA-256; `prefix` is the part that may be shown to tell keys apart.

    `scopes` are words, see `core.accounts.scopes`. `last_used_at` lags behind by up to a minute.
    """

    __tablename__ = "api_keys"
    __table_args__ = (Index("ix_api_keys_owner_id", "owner_id"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("owners.id"))
    name: Mapped[str] = mapped_column(String(128))
    prefix: Mapped[str] = mapped_column(String(32))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[str] = mapped_column(String(255), default=Scope.ADMIN, server_default=Scope.ADMIN)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class DeviceUse(Base):
    """Seconds times devices that an owner's attempts had, by UTC day; deleting jobs gives nothing back."""

    __tablename__ = "device_use"

    owner_id: Mapped[str] = mapped_column(ForeignKey("owners.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    seconds: Mapped[float] = mapped_column(default=0.0)
