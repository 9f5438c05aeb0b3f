"""Tables of signatures of results, and of the public keys that check them."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.base import Base

_UNSIGNED = "signature IS NULL"


class SigningKey(Base):
    """The public half of a key that has signed; it stays, so that what it signed can be checked for ever."""

    __tablename__ = "signing_keys"

    id: Mapped[str] = mapped_column(String(43), primary_key=True)
    public_key: Mapped[str] = mapped_column(String(43))
    created_at: Mapped[datetime]


class Signature(Base):
    """What vouches for a job's result. Made empty with the result; an API signs it, no worker has the key."""

    __tablename__ = "signatures"
    __table_args__ = (
        Index(
            "ix_signatures_unsigned",
            "job_id",
            sqlite_where=text(_UNSIGNED),
            postgresql_where=text(_UNSIGNED),
        ),
    )

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    key_id: Mapped[str | None] = mapped_column(ForeignKey("signing_keys.id"))
    signature: Mapped[str | None] = mapped_column(String(86))
    signed_at: Mapped[datetime | None]
