"""A service copied to a folder and back, from either kind of database to either."""

import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import delete, select, update

from core.accounts.repository import authenticate, create_key
from core.artifacts.local import LocalStore
from core.artifacts.repository import ArtifactRecord
from core.artifacts.tables import Artifact
from core.assets import repository as assets
from core.assets.files import FileRecord
from core.assets.tables import AssetFile, Model
from core.backup import BackupFailed, Copied, restore, save
from core.backup.rows import count_rows, named_objects
from core.backup.save import copy_object
from core.db import Database, migrate
from core.db.migrate import alembic_config
from core.jobs import repository as jobs
from core.jobs.leases import claim, finish
from core.jobs.states import Status
from core.jobs.tables import Job, JobEvent
from core.tables import METADATA
from core.uploads import repository as uploads
from core.uploads.parts import assemble, store_part
from core.uploads.repository import Declaration
from tests.support.ledger import make_job, make_model, make_owner

RESULT = b"pruned weights" * 10_000
Rows = dict[str, list[tuple[object, ...]]]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Callable[[], tuple[Database, LocalStore]]]:
    """Makes empty services."""
    made: list[Database] = []

    def make() -> tuple[Database, LocalStore]:
        root = tmp_path / f"fresh{len(made)}"
        root.mkdir()
        made.append(Database(f"sqlite:///{root}/prunery.db"))
        return made[-1], LocalStore(root / "store")

    yield make
    for database in made:
        database.dispose()


def populate(database: Database, store: LocalStore) -> tuple[str, dict[Status, str]]:
    """A key, and a job in each state that the backup of a busy service can meet."""
    ids: dict[Status, str] = {}
    stored = store.put([RESULT])
    with database.write() as session:
        owner = make_owner(session)
        key = create_key(session, owner, "laptop")[1]
        for status in (Status.SUCCEEDED, Status.RUNNING, Status.CANCELING):
            ids[status] = make_job(session, owner).id
            taken = claim(session, worker_id="w", queues=["cpu"], lease_seconds=60)
            assert taken is not None
            if status is Status.SUCCEEDED:
                record = ArtifactRecord("model/model.safetensors", stored.bytes, stored.sha256, "x/y")
                finish(session, taken.token, artifacts=[record], report={"kind": "shrunk", "z": 1, "a": None})
            if status is Status.CANCELING:
                jobs.cancel(session, owner, ids[status])
        ids[Status.QUEUED] = make_job(session, owner).id
        weights = store.put([b"weights"])
        session.execute(update(AssetFile).values(sha256=weights.sha256, bytes=weights.bytes))
    return key, ids


def all_rows(database: Database) -> Rows:
    with database.read() as session:
        return {
            table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.primary_key))]
            for table in METADATA.sorted_tables
        }


def test_everything_comes_back(
    database: Database, store: LocalStore, tmp_path: Path, fresh: Callable[[], tuple[Database, LocalStore]]
) -> None:
    key, ids = populate(database, store)
    saved = save(database, store, tmp_path / "backup")
    before = all_rows(database)
    assert saved == Copied(sum(map(len, before.values())), 2)

    target, objects = fresh()
    assert restore(tmp_path / "backup", target, objects) == Copied(saved.rows, 2, requeued=2)
    with target.read() as session:
        assert authenticate(session, key)
        found = {job.id: job for job in session.scalars(select(Job))}
        (artifact,) = session.scalars(select(Artifact))
        reasons = session.scalars(select(JobEvent.data).where(JobEvent.job_id == ids[Status.RUNNING])).all()
    with objects.open(artifact.sha256) as file:
        assert file.read() == RESULT
    assert found[ids[Status.SUCCEEDED]].report == {"kind": "shrunk", "z": 1, "a": None}
    assert list(found[ids[Status.SUCCEEDED]].report or {}) == ["kind", "z", "a"]
    assert found[ids[Status.CANCELING]].status is Status.CANCELED
    assert found[ids[Status.QUEUED]].status is Status.QUEUED
    running = found[ids[Status.RUNNING]]
    assert (running.status, running.worker_id, running.lease_until) == (Status.QUEUED, None, None)
    assert (running.attempt, running.failures) == (1, 0)
    assert reasons[-1]["reason"] == "restored"
    after = all_rows(target)
    moved = ("jobs", "job_events", "device_use")  # what ran was taken from its worker
    assert {name: rows for name, rows in after.items() if name not in moved} == {
        name: rows for name, rows in before.items() if name not in moved
    }
    with target.write() as session:
        taken = claim(session, worker_id="new", queues=["cpu"], lease_seconds=60)
    assert taken is not None
    assert (taken.token.job_id, taken.token.attempt) == (running.id, 2)


def test_whoever_writes_during_a_restore_keeps_the_database(
    sqlite_url: str,
    store: LocalStore,
    tmp_path: Path,
    fresh: Callable[[], tuple[Database, LocalStore]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    database = Database(sqlite_url)
    populate(database, store)
    save(database, store, tmp_path / "backup")
    database.dispose()
    target, target_store = fresh()

    def copy_and_write(*arguments: Any) -> bool:
        with target.write() as session:
            make_owner(session)
        return copy_object(*arguments)

    monkeypatch.setattr(sys.modules["core.backup.restore"], "copy_object", copy_and_write)
    with pytest.raises(BackupFailed, match="Somebody wrote to the database meanwhile"):
        restore(tmp_path / "backup", target, target_store)
    with target.read() as session:
        assert session.scalars(select(Job)).all() == []


def test_an_upload_in_parts_goes_on_after_a_restore(
    database: Database, store: LocalStore, tmp_path: Path, fresh: Callable[[], tuple[Database, LocalStore]]
) -> None:
    with database.write() as session:
        owner = make_owner(session)
        model = assets.create_model(session, owner_id=owner, name="large")
        file = Declaration(Model, model.id, "vocab.txt", 10, hashlib.sha256(b"firstother").hexdigest())
        upload, _ = uploads.declare(session, owner, file, part_bytes=5, max_bytes=10)
    for number, content in ((1, b"first"), (2, b"other")):
        if number == 2:
            assert save(database, store, tmp_path / "backup").objects == 1
            database, store = fresh()
            restore(tmp_path / "backup", database, store)
        part = store_part(store, upload, number, [content])
        with database.write() as session:
            uploads.keep_part(session, owner, upload.id, part)
            parts = uploads.parts_of(session, upload)
    assert assemble(store, upload, parts).sha256 == file.sha256


def test_a_backup_moves_a_service_to_postgresql(
    sqlite_url: str, postgres_url: str, store: LocalStore, tmp_path: Path
) -> None:
    source, target = Database(sqlite_url), Database(postgres_url)
    with source.write() as session:
        make_job(session)
        session.execute(update(AssetFile).values(sha256=store.put([b"weights"]).sha256))
    save(source, store, tmp_path / "backup")
    restore(tmp_path / "backup", target, LocalStore(tmp_path / "other"))
    assert all_rows(target) == all_rows(source)
    for database in (source, target):
        database.dispose()


def test_the_backup_is_a_data_folder(database: Database, store: LocalStore, tmp_path: Path) -> None:
    populate(database, store)
    save(database, store, tmp_path / "backup")
    copy = Database(f"sqlite:///{tmp_path}/backup/prunery.db")
    assert all_rows(copy) == all_rows(database)
    copy.dispose()
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0
    assert {path.name for path in (tmp_path / "backup").iterdir()} == {"prunery.db", "store"}


def test_a_second_backup_copies_only_what_is_new(
    database: Database, store: LocalStore, tmp_path: Path
) -> None:
    populate(database, store)
    folder = tmp_path / "backup"
    save(database, store, folder)
    objects = {path: path.stat().st_ino for path in (folder / "store" / "sha256").glob("*/*")}
    with database.write() as session:
        owner = make_owner(session)
        new = FileRecord("config.json", 3, store.put([b"new"]).sha256)
        assets.add_file(
            session, Model, owner, assets.create_model(session, owner_id=owner, name="m").id, new, max_bytes=9
        )
    assert save(database, store, folder).objects == 3
    assert (
        objects.items()
        < {path: path.stat().st_ino for path in (folder / "store" / "sha256").glob("*/*")}.items()
    )


def test_one_moment_is_seen_whatever_is_written_meanwhile(database: Database) -> None:
    with database.write() as session:
        make_owner(session)
    with database.snapshot() as session:
        before = count_rows(session)
        writer = threading.Thread(target=_write_a_job, args=(database,))
        writer.start()
        writer.join()
        assert count_rows(session) == before
    with database.read() as session:
        assert count_rows(session) > before


def test_an_object_deleted_during_the_backup_is_looked_for_no_more(sqlite_url: str, tmp_path: Path) -> None:
    database = Database(sqlite_url)

    class Swept(LocalStore):
        """A store whose sweep comes just when the backup reads: the row goes, then the object."""

        def open(self, sha256: str, start: int = 0):  # type: ignore[no-untyped-def]
            if sha256 == doomed.sha256:
                with database.write() as session:
                    session.execute(delete(AssetFile))
                self.delete(sha256)
            return super().open(sha256, start)

    store = Swept(tmp_path / "store")
    doomed = store.put([b"doomed"])
    with database.write() as session:
        make_model(session, make_owner(session))
        session.execute(update(AssetFile).values(sha256=doomed.sha256))
    assert save(database, store, tmp_path / "backup").objects == 0
    database.dispose()


def test_what_is_still_on_the_hub_is_no_object(sqlite_url: str, tmp_path: Path) -> None:
    database = Database(sqlite_url)
    with database.write() as session:
        make_model(session, make_owner(session))
        session.execute(update(Model).values(status="pending"))
        assert named_objects(session) == set()
    database.dispose()


class TestRefusals:
    def test_a_store_that_lacks_an_object(
        self, database: Database, store: LocalStore, tmp_path: Path
    ) -> None:
        with database.write() as session:
            make_model(session, make_owner(session))
        with pytest.raises(BackupFailed, match="1 objects that rows name are not in the store, such as aaaa"):
            save(database, store, tmp_path / "backup")
        assert not (tmp_path / "backup" / "prunery.db").exists()

    def test_a_damaged_object(self, database: Database, store: LocalStore, tmp_path: Path) -> None:
        populate(database, store)
        damage(store)
        with pytest.raises(BackupFailed, match="is damaged"):
            save(database, store, tmp_path / "backup")
        assert not (tmp_path / "backup" / "prunery.db").exists()

    def test_a_schema_behind(self, sqlite_url: str, store: LocalStore, tmp_path: Path) -> None:
        command.downgrade(alembic_config(sqlite_url), "-1")
        database = Database(sqlite_url)
        with pytest.raises(BackupFailed, match="prunery migrate"):
            save(database, store, tmp_path / "backup")
        database.dispose()

    def test_a_service_that_is_not_empty(self, database: Database, store: LocalStore, tmp_path: Path) -> None:
        populate(database, store)
        save(database, store, tmp_path / "backup")
        before = all_rows(database)
        with pytest.raises(BackupFailed, match="into an empty one only"):
            restore(tmp_path / "backup", database, store)
        assert all_rows(database) == before

    def test_a_folder_that_is_no_backup(self, database: Database, store: LocalStore, tmp_path: Path) -> None:
        with pytest.raises(BackupFailed, match=r"holds no prunery\.db"):
            restore(tmp_path / "nothing", database, store)

    def test_the_folder_of_a_service_that_runs(
        self, sqlite_url: str, tmp_path: Path, fresh: Callable[[], tuple[Database, LocalStore]]
    ) -> None:
        running = Database(sqlite_url)
        with running.write() as session:
            make_owner(session)
        target, objects = fresh()
        with pytest.raises(BackupFailed, match="not a backup"):
            restore(tmp_path, target, objects)
        running.dispose()

    @pytest.mark.parametrize("harm", ["damaged", "lost"])
    def test_a_backup_whose_objects_are(
        self,
        harm: str,
        sqlite_url: str,
        store: LocalStore,
        tmp_path: Path,
        fresh: Callable[[], tuple[Database, LocalStore]],
    ) -> None:
        source = Database(sqlite_url)
        populate(source, store)
        save(source, store, tmp_path / "backup")
        source.dispose()
        copies = LocalStore(tmp_path / "backup" / "store")
        if harm == "damaged":
            damage(copies)
        else:
            copies.delete(next(copies.objects()))
        target, objects = fresh()
        with pytest.raises(BackupFailed, match="damaged" if harm == "damaged" else "lacks the object"):
            restore(tmp_path / "backup", target, objects)
        with target.read() as session:
            assert count_rows(session) == 0

    def test_rows_that_are_damaged(
        self, store: LocalStore, tmp_path: Path, fresh: Callable[[], tuple[Database, LocalStore]]
    ) -> None:
        (tmp_path / "prunery.db").write_bytes(b"torn" * 1000)
        target, objects = fresh()
        with pytest.raises(BackupFailed, match="is damaged"):
            restore(tmp_path, target, objects)

    def test_a_backup_of_a_newer_version(
        self, sqlite_url: str, tmp_path: Path, fresh: Callable[[], tuple[Database, LocalStore]]
    ) -> None:
        newer = Database(sqlite_url)
        with newer.write() as session:
            session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        newer.dispose()
        target, objects = fresh()
        with pytest.raises(BackupFailed, match="newer Prunery"):
            restore(tmp_path, target, objects)


def test_a_backup_of_an_older_schema_is_brought_up_to_date(
    tmp_path: Path, fresh: Callable[[], tuple[Database, LocalStore]]
) -> None:
    old = tmp_path / "backup" / "prunery.db"
    migrate(f"sqlite:///{old}")
    source = Database(f"sqlite:///{old}")
    with source.write() as session:
        make_owner(session)
    source.dispose()
    command.downgrade(alembic_config(f"sqlite:///{old}"), "0001")
    before = old.read_bytes()
    target, objects = fresh()
    assert restore(tmp_path / "backup", target, objects).rows == 1
    assert old.read_bytes() == before


def damage(store: LocalStore) -> None:
    """Change one byte of an object, as a failing disk would."""
    path = store.path(next(store.objects()))
    assert path is not None
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


def _write_a_job(database: Database) -> None:
    with database.write() as session:
        make_job(session)
