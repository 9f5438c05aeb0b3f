"""Table of the results of jobs."""

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from core.db.base import Base


class Artifact(Base):
    """One file of a job's result, such as `model/config.json`; its bytes are the store's object `sha256`."""

    __tablename__ = "artifacts"
    __table_args__ = (UniqueConstraint("job_id", "name"), Index("ix_artifacts_sha256", "sha256"))

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    attempt: Mapped[int]
    name: Mapped[str] = mapped_column(String(255))
    bytes: Mapped[int]
    sha256: Mapped[str] = mapped_column(String(64))
    media_type: Mapped[str] = mapped_column(String(128))
    created_at: Mapped[datetime]
