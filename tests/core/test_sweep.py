"""The sweep forgets what nobody needs, and nothing else."""

import os
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from core.artifacts.local import LocalStore
from core.artifacts.repository import ArtifactRecord
from core.assets import repository as assets
from core.assets.files import FileRecord
from core.assets.tables import Model
from core.clock import now
from core.db import Database
from core.errors import NotFound
from core.jobs import idempotency, leases, repository
from core.jobs.idempotency import Request
from core.settings import Settings
from core.sweep import Swept, sweep
from core.uploads import repository as uploads
from core.uploads.parts import store_part
from core.uploads.repository import Declaration
from core.uploads.tables import Upload
from core.workers.repository import WorkerRecord, beat, list_workers
from core.workers.tables import Worker
from tests.support.ledger import make_job, make_owner

DAY = 86_400


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def store(settings: Settings) -> LocalStore:
    return LocalStore(settings.store_dir)


def make_old(path: Path | None) -> None:
    assert path is not None
    os.utime(path, (0, 0))


def swept(**counts: int) -> Swept:
    return Swept(**dict.fromkeys((field.name for field in fields(Swept)), 0) | counts)


def test_an_unfinished_upload_goes_with_its_bytes_when_it_is_old(
    database: Database, store: LocalStore, settings: Settings
) -> None:
    stored = store.put([b"bytes"])
    with database.write() as session:
        owner = make_owner(session)
        model = assets.create_model(session, owner_id=owner, name="half")
        file = FileRecord("config.json", stored.bytes, stored.sha256)
        assets.add_file(session, Model, owner, model.id, file, max_bytes=100)
    make_old(store.path(stored.sha256))
    assert sweep(database, store, settings) == swept()
    with database.write() as session:
        session.execute(update(Model).values(created_at=now(session) - timedelta(seconds=DAY + 1)))
    assert sweep(database, store, settings) == swept(uploads=1, objects=1)
    with pytest.raises(NotFound), database.read() as session:
        assets.get(session, Model, owner, model.id)


def test_parts_go_when_none_came_for_a_day_and_keep_their_model_until_then(
    database: Database, store: LocalStore, settings: Settings
) -> None:
    with database.write() as session:
        owner = make_owner(session)
        model = assets.create_model(session, owner_id=owner, name="large")
        file = Declaration(Model, model.id, "model.safetensors", 5, "a" * 64)
        upload, _ = uploads.declare(session, owner, file, part_bytes=5, max_bytes=5)
    part = store_part(store, upload, 1, [b"bytes"])
    with database.write() as session:
        uploads.keep_part(session, owner, upload.id, part)
        session.execute(update(Model).values(created_at=now(session) - timedelta(seconds=2 * DAY)))
    make_old(store.path(part.object))
    assert sweep(database, store, settings) == swept()
    with database.write() as session:
        session.execute(update(Upload).values(updated_at=now(session) - timedelta(seconds=DAY + 1)))
    assert sweep(database, store, settings) == swept(uploads=2, objects=1)
    with pytest.raises(NotFound), database.read() as session:
        uploads.get(session, owner, upload.id)


def test_named_objects_stay_and_unnamed_ones_stay_while_they_are_young(
    database: Database, store: LocalStore, settings: Settings
) -> None:
    result, unnamed = store.put([b"result"]), store.put([b"unnamed"])
    with database.write() as session:
        make_job(session)
        claim = leases.claim(session, worker_id="w", queues=["cpu"], lease_seconds=60)
        assert claim is not None
        record = ArtifactRecord("report.json", result.bytes, result.sha256, "application/json")
        leases.finish(session, claim.token, artifacts=[record], report={})
    make_old(store.path(result.sha256))
    assert sweep(database, store, settings).objects == 0
    make_old(store.path(unnamed.sha256))
    assert sweep(database, store, settings).objects == 1
    assert store.exists(result.sha256)
    assert not store.exists(unnamed.sha256)


def test_expired_answers_go(database: Database, store: LocalStore, settings: Settings) -> None:
    with database.write() as session:
        request = Request(make_owner(session), "key", "POST", "/v1/jobs", "f" * 64)
        idempotency.begin(session, request, hours=24)
    assert sweep(database, store, settings).idempotency_keys == 0
    with database.write() as session:
        session.execute(update(idempotency.IdempotencyKey).values(expires_at=now(session)))
    assert sweep(database, store, settings).idempotency_keys == 1


def test_folders_of_jobs_that_are_over_go_when_they_are_old(
    database: Database, store: LocalStore, settings: Settings
) -> None:
    with database.write() as session:
        active, over = make_job(session), make_job(session)
        repository.cancel(session, over.owner_id, over.id)
    folders = [settings.work_dir / "jobs" / name for name in (active.id, over.id, "job_forgotten")]
    for folder in folders:
        (folder / "attempts" / "1").mkdir(parents=True)
    assert sweep(database, store, settings).work_folders == 0
    for folder in folders:
        make_old(folder / "attempts" / "1")
        make_old(folder)
    make_old(settings.work_dir / "jobs")
    assert sweep(database, store, settings).work_folders == 2
    assert [folder.exists() for folder in folders] == [True, False, False]


def test_a_worker_that_died_is_forgotten_after_a_day(
    database: Database, store: LocalStore, settings: Settings
) -> None:
    with database.write() as session:
        for name, silent in (("alive", 0), ("silent", DAY - 60), ("dead", DAY + 60)):
            beat(session, WorkerRecord(name, "cpu", 1, []))
            heartbeat_at = now(session) - timedelta(seconds=silent)
            session.execute(update(Worker).where(Worker.id == name).values(heartbeat_at=heartbeat_at))
    assert sweep(database, store, settings).workers == 1
    with database.read() as session:
        stale = {worker.id: worker.stale for worker in list_workers(session)}
    assert stale == {"alive": False, "silent": True}
