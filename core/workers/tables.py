"""The table of worker processes."""

from datetime import datetime

from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from core.db.base import Base
from core.queues import Kind


class Worker(Base):
    """A worker process from its first sign of life to its orderly end, or until the sweep forgets it.

    `queue` is its kind, see `core.queues`; `devices` the ids of the accelerators its slots share,
    of which the smallest has `gpu_memory_gib`, 0 where that is unknown.
    """

    __tablename__ = "workers"

    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    queue: Mapped[Kind] = mapped_column(String(32))
    slots: Mapped[int]
    devices: Mapped[list[str]] = mapped_column(JSON(none_as_null=True))
    gpu_memory_gib: Mapped[float] = mapped_column(default=0.0, server_default="0")
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
