"""Tables of models and datasets and their files."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from core.db.base import Base, Json


class AssetStatus(StrEnum):
    """`uploading` takes files; `pending` names files of the hub, to be fetched; `ready` is complete."""

    UPLOADING = "uploading"
    PENDING = "pending"
    READY = "ready"


class Model(Base):
    """A transformer model; what its files say is filled in when it is complete, a hub's `config` at once."""

    __tablename__ = "models"
    __table_args__ = (Index("ix_models_owner_id_id", "owner_id", "id"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("owners.id"))
    name: Mapped[str] = mapped_column(String(200))
    source: Mapped[str] = mapped_column(String(8))
    status: Mapped[str] = mapped_column(String(16))
    hub_id: Mapped[str | None] = mapped_column(String(200))
    hub_revision: Mapped[str | None] = mapped_column(String(64))
    config: Mapped[Json | None]
    model_type: Mapped[str | None] = mapped_column(String(64))
    parameters: Mapped[int | None]
    bytes: Mapped[int] = mapped_column(default=0)
    digest: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]


class Dataset(Base):
    """Labelled text; `summary` is the `DataSummary` of its files."""

    __tablename__ = "datasets"
    __table_args__ = (Index("ix_datasets_owner_id_id", "owner_id", "id"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("owners.id"))
    name: Mapped[str] = mapped_column(String(200))
    source: Mapped[str] = mapped_column(String(8))
    status: Mapped[str] = mapped_column(String(16))
    hub_id: Mapped[str | None] = mapped_column(String(200))
    hub_config: Mapped[str | None] = mapped_column(String(200))
    hub_revision: Mapped[str | None] = mapped_column(String(64))
    summary: Mapped[Json | None]
    bytes: Mapped[int] = mapped_column(default=0)
    digest: Mapped[str | None] = mapped_column(String(64))
    created_at: Mapped[datetime]


class AssetFile(Base):
    """One file of a model or dataset; its bytes are the store's object `sha256`.

    A file of the hub has its `hub_path`; until it is fetched, `sha256` is there only where the hub states it.
    """

    __tablename__ = "asset_files"
    __table_args__ = (Index("ix_asset_files_sha256", "sha256"),)

    asset_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    bytes: Mapped[int]
    sha256: Mapped[str | None] = mapped_column(String(64))
    hub_path: Mapped[str | None] = mapped_column(String(512))
