"""Table of who changed what."""

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from core.db.base import Base


class AuditRecord(Base):
    """One change, written in its transaction, or one refusal for a missing scope; never changed afterwards.

    `actor` is the id of a key, or `operator` for the command line. Names nobody by foreign key: a record
    outlives what it is about.
    """

    __tablename__ = "audit_log"
    __table_args__ = (Index("ix_audit_log_owner_id_id", "owner_id", "id"), Index("ix_audit_log_at", "at"))

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner_id: Mapped[str] = mapped_column(String(32))
    actor: Mapped[str] = mapped_column(String(32))
    action: Mapped[str] = mapped_column(String(64))
    object: Mapped[str] = mapped_column(String(255))
    outcome: Mapped[str] = mapped_column(String(16))
    request_id: Mapped[str | None] = mapped_column(String(128))
    at: Mapped[datetime]
