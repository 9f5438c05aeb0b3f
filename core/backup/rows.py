"""Every row of one database into another, of the same schema and of either kind."""

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from core.artifacts.tables import Artifact
from core.assets.tables import AssetFile, AssetStatus, Dataset, Model
from core.tables import METADATA
from core.uploads.tables import UploadPart

BATCH = 500


def copy_rows(source: Session, target: Session) -> int:
    """Copy every table, parents before children; the number of rows."""
    copied = 0
    for table in METADATA.sorted_tables:
        rows = source.execute(select(table), execution_options={"yield_per": BATCH}).mappings()
        for part in rows.partitions():
            target.execute(insert(table), [dict(row) for row in part])
            copied += len(part)
    return copied


def count_rows(session: Session) -> int:
    """How many rows all tables hold together."""
    return sum(
        session.execute(select(func.count()).select_from(table)).scalar_one()
        for table in METADATA.sorted_tables
    )


def named_objects(session: Session) -> set[str]:
    """SHA-256 of every object that the rows need; files still on the hub are no objects yet."""
    pending = select(Model.id).where(Model.status == AssetStatus.PENDING)
    pending_too = select(Dataset.id).where(Dataset.status == AssetStatus.PENDING)
    files = select(AssetFile.sha256).where(
        AssetFile.sha256.is_not(None), AssetFile.asset_id.not_in(pending.union_all(pending_too))
    )
    named = files.union(select(Artifact.sha256), select(UploadPart.object))
    return {sha256 for sha256 in session.scalars(named) if sha256}
