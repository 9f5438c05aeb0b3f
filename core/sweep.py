"""Forgetting what nobody needs: expired answers, old deliveries, dead workers, unfinished uploads, unnamed files."""

import shutil
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import delete, exists, select
from sqlalchemy.orm import Session

from core.artifacts.store import Store
from core.artifacts.tables import Artifact
from core.assets.tables import AssetFile, AssetStatus, Dataset, Model
from core.audit import log as audit
from core.clock import now
from core.db import Database
from core.db.writes import rows_changed
from core.jobs.states import ACTIVE
from core.jobs.tables import IdempotencyKey, Job
from core.settings import Settings
from core.uploads.repository import discard_idle
from core.uploads.tables import Upload, UploadPart
from core.webhooks import outbox
from core.workers.repository import forget_silent


@dataclass(frozen=True)
class Swept:
    """How many of each were deleted."""

    idempotency_keys: int
    uploads: int
    objects: int
    work_folders: int
    workers: int
    audit_records: int
    deliveries: int


def sweep(database: Database, store: Store, settings: Settings) -> Swept:
    """One pass, safe beside everything else; run it about once an hour."""
    age = settings.sweep_after_hours * 3600
    with database.write() as session:
        at = now(session)
        keys = rows_changed(session, delete(IdempotencyKey).where(IdempotencyKey.expires_at <= at))
        uploads = _unfinished_uploads(session, settings)
        workers = forget_silent(session, seconds=age)
        records = audit.forget_old(session, days=settings.audit_days)
        deliveries = outbox.forget_old(session, settings.webhook_retention_days)
    store.discard_unpublished(older_seconds=age)
    # An object that is put and named while this runs is younger than `age`, and stays.
    unnamed = [sha256 for sha256 in store.objects() if not _is_named(database, sha256)]
    objects = sum(store.delete(sha256, unused_seconds=age) for sha256 in unnamed)
    folders = _work_folders(database, settings.work_dir, age)
    return Swept(keys, uploads, objects, folders, workers, records, deliveries)


def _unfinished_uploads(session: Session, settings: Settings) -> int:
    """Delete files in parts of which none came for a while, and old models and datasets without such a file."""
    before = now(session) - timedelta(hours=settings.sweep_after_hours)
    deleted = discard_idle(session, before)
    for kind, owner in ((Model, Upload.model_id), (Dataset, Upload.dataset_id)):
        alive = exists().where(owner == kind.id, Upload.updated_at >= before)
        old = select(kind.id).where(kind.status == AssetStatus.UPLOADING, kind.created_at < before, ~alive)
        for asset_id in session.scalars(old.with_for_update(skip_locked=True)).all():
            rows_changed(session, delete(AssetFile).where(AssetFile.asset_id == asset_id))
            deleted += rows_changed(session, delete(kind).where(kind.id == asset_id))
    return deleted


def _is_named(database: Database, sha256: str) -> bool:
    with database.read() as session:
        named = select(AssetFile.sha256).where(AssetFile.sha256 == sha256)
        published = select(Artifact.sha256).where(Artifact.sha256 == sha256)
        arrived = select(UploadPart.object).where(UploadPart.object == sha256)
        return session.execute(named.union_all(published, arrived).limit(1)).first() is not None


def _work_folders(database: Database, work_dir: Path, age: float) -> int:
    """Delete the folders of jobs that are over, once they have been left alone for `age` seconds."""
    deleted = 0
    for folder in (work_dir / "jobs").glob("job_*"):
        if time.time() - _newest(folder) < age:
            continue
        with database.read() as session:
            active = session.scalars(
                select(Job.id).where(Job.id == folder.name, Job.status.in_(ACTIVE))
            ).one_or_none()
        if active is None:
            shutil.rmtree(folder, ignore_errors=True)
            deleted += 1
    return deleted


def _newest(folder: Path) -> float:
    attempts = folder.glob("attempts/*")
    return max((path.stat().st_mtime for path in (folder, *attempts)), default=0.0)
