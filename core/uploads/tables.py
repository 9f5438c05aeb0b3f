"""Tables of files that arrive in parts."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from core.db.base import Base


class UploadStatus(StrEnum):
    """`receiving` takes parts; `complete` has become a file of its model or dataset."""

    RECEIVING = "receiving"
    COMPLETE = "complete"


class Upload(Base):
    """One file of a model or a dataset on its way here in parts; it ends with what it is for.

    `bytes` and `sha256` are those of the whole file as declared; every part but the last has `part_bytes`.
    `updated_at` is when the last part came.
    """

    __tablename__ = "uploads"
    __table_args__ = (
        UniqueConstraint("model_id", "name"),
        UniqueConstraint("dataset_id", "name"),
        Index("ix_uploads_owner_id_id", "owner_id", "id"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("owners.id"))
    model_id: Mapped[str | None] = mapped_column(ForeignKey("models.id", ondelete="CASCADE"))
    dataset_id: Mapped[str | None] = mapped_column(ForeignKey("datasets.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(128))
    bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    part_bytes: Mapped[int]
    status: Mapped[str] = mapped_column(String(16), default=UploadStatus.RECEIVING)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    @property
    def part_count(self) -> int:
        """How many parts the file has; the first is number 1."""
        return -(-self.bytes // self.part_bytes)

    def size_of(self, number: int) -> int:
        """Bytes of a part, from 1 to `part_count`."""
        return min(self.part_bytes, self.bytes - (number - 1) * self.part_bytes)


class UploadPart(Base):
    """A part that has come: `sha256` of its bytes, and the name of the store's object that holds them."""

    __tablename__ = "upload_parts"
    __table_args__ = (Index("ix_upload_parts_object", "object"),)

    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id", ondelete="CASCADE"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    object: Mapped[str] = mapped_column(String(64))
