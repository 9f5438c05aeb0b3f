"""Every check, against parts that really are away, behind, full or wrong."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from alembic import command
from sqlalchemy import text

from cli.doctor.broker import check_broker
from cli.doctor.engine import check_engine
from cli.doctor.environment import check_settings
from cli.doctor.finding import Finding
from cli.doctor.ledger import check_database
from cli.doctor.signing import check_signing_key
from cli.doctor.storage import check_storage
from core.db import Database
from core.db.migrate import alembic_config
from core.queues import QUEUES
from core.settings import Settings
from core.signing.keys import load_or_make
from core.workers.repository import WorkerRecord
from tests.support.proxy import BlockableServer
from worker.liveness import Liveness

Check = Callable[[Settings], Iterator[Finding]]
NOBODY = "127.0.0.1:1"
"""A port that nothing listens on."""


def found(check: Check, tmp_path: Path, **settings: Any) -> dict[str, Finding]:
    """The findings by what they are about; each that is not ok says what to do."""
    findings = list(check(Settings(data_dir=tmp_path, **settings)))
    names = [finding.check for finding in findings]
    assert len(set(names)) == len(names)
    assert all((finding.status == "ok") == (finding.remedy == "") for finding in findings)
    return {finding.check: finding for finding in findings}


def states(check: Check, tmp_path: Path, **settings: Any) -> dict[str, str]:
    return {name: each.status for name, each in found(check, tmp_path, **settings).items()}


class TestSettings:
    def test_a_variable_that_nothing_reads(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PRUNERY_URL", "http://127.0.0.1:8000")
        monkeypatch.setenv("PRUNERY_HUB_TOKEN_FILE", "/run/secrets/hub")
        assert states(check_settings, tmp_path) == {"settings": "ok"}
        monkeypatch.setenv("PRUNERY_LEASE_SECOND", "3")
        finding = found(check_settings, tmp_path)["settings"]
        assert finding.status == "warn"
        assert "PRUNERY_LEASE_SECOND" in finding.detail


class TestDatabase:
    def test_all_is_well_and_nothing_is_left_behind(self, tmp_path: Path, database_url: str) -> None:
        assert states(check_database, tmp_path, database_url=database_url) == {
            "database": "ok",
            "schema": "ok",
            "clock": "ok",
            "database writes": "ok",
        }
        database = Database(database_url)
        with database.read() as session:
            assert session.execute(text("SELECT count(*) FROM owners")).scalar_one() == 0
        database.dispose()

    def test_a_server_that_is_down_keeps_its_password(self, tmp_path: Path) -> None:
        url = f"postgresql://prunery:secret@{NOBODY}/prunery"
        down = found(check_database, tmp_path, database_url=url)
        assert {name: each.status for name, each in down.items()} == {"database": "fail"}
        assert "refused" in down["database"].detail
        assert "secret" not in str(down)

    def test_a_server_that_accepts_and_never_answers(self, tmp_path: Path, postgres_url: str) -> None:
        server = BlockableServer(postgres_url)
        with server.blocked():
            assert states(check_database, tmp_path, database_url=server.url) == {"database": "fail"}
        server.close()

    def test_a_file_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        assert states(check_database, tmp_path) == {"database": "fail"}
        assert list(tmp_path.iterdir()) == []

    def test_a_file_that_is_something_else(self, tmp_path: Path) -> None:
        (tmp_path / "prunery.db").write_bytes(b"not a database" * 100)
        assert states(check_database, tmp_path) == {"database": "fail"}

    def test_another_kind_of_database(self, tmp_path: Path) -> None:
        assert states(check_database, tmp_path, database_url="mysql://db/x") == {"database": "fail"}

    def test_a_schema_behind(self, tmp_path: Path, sqlite_url: str) -> None:
        command.downgrade(alembic_config(sqlite_url), "-1")
        behind = found(check_database, tmp_path, database_url=sqlite_url)
        assert behind["schema"].status == "fail"
        assert "prunery migrate" in behind["schema"].remedy
        assert "database writes" not in behind

    def test_a_file_that_is_read_only(self, tmp_path: Path, sqlite_url: str) -> None:
        url = sqlite_url.replace("sqlite:///", "sqlite:///file:") + "?mode=ro&uri=true"
        read_only = states(check_database, tmp_path, database_url=url)
        assert (read_only["database"], read_only["database writes"]) == ("ok", "fail")

    def test_a_server_that_is_read_only(self, tmp_path: Path, postgres_url: str) -> None:
        url = with_options(postgres_url, "-c default_transaction_read_only=on")
        read_only = states(check_database, tmp_path, database_url=url)
        assert (read_only["database"], read_only["database writes"]) == ("ok", "fail")

    @pytest.mark.parametrize(("apart", "state"), [("1 minute", "warn"), ("13 hours", "fail")])
    def test_a_clock_that_is_wrong(self, tmp_path: Path, postgres_url: str, apart: str, state: str) -> None:
        # A function of ours before the server's own: its time, and so its clock, is another.
        database = Database(postgres_url)
        with database.write() as session:
            session.execute(text("CREATE SCHEMA wrong"))
            session.execute(
                text(
                    "CREATE FUNCTION wrong.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS "
                    f"$$ SELECT pg_catalog.clock_timestamp() + interval '{apart}' $$"
                )
            )
        try:
            url = with_options(postgres_url, "-c search_path=wrong,pg_catalog,public")
            assert states(check_database, tmp_path, database_url=url)["clock"] == state
        finally:
            with database.write() as session:
                session.execute(text("DROP SCHEMA wrong CASCADE"))
            database.dispose()


class TestBroker:
    def test_a_ring_goes_through_files_and_leaves_none(self, tmp_path: Path) -> None:
        assert states(check_broker, tmp_path) == {"broker": "ok"}
        left = {path.name for path in (tmp_path / "broker").rglob("*") if path.is_file()}
        assert left == {f"{queue}.exchange" for queue in QUEUES}

    def test_a_ring_goes_through_redis_and_leaves_nothing(self, tmp_path: Path, redis_url: str) -> None:
        assert states(check_broker, tmp_path, broker_url=redis_url) == {"broker": "ok"}
        with redis.Redis.from_url(redis_url) as client:
            assert not [key for key in client.scan_iter() if b"doctor" in key]

    def test_a_server_that_is_away(self, tmp_path: Path) -> None:
        away = found(check_broker, tmp_path, broker_url=f"redis://:secret@{NOBODY}/0")
        assert away["broker"].status == "fail"
        assert "secret" not in str(away)

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "broker").write_text("a file")
        assert states(check_broker, tmp_path) == {"broker": "fail"}

    def test_a_transport_that_is_none(self, tmp_path: Path) -> None:
        assert states(check_broker, tmp_path, broker_url="nonsense://") == {"broker": "fail"}


class TestStorage:
    def test_all_is_well_and_nothing_is_left_behind(self, tmp_path: Path) -> None:
        small = {"max_model_bytes": 1024, "max_dataset_bytes": 1024}
        assert set(states(check_storage, tmp_path, **small).values()) == {"ok"}
        assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["lock"]

    def test_a_bucket(self, tmp_path: Path, s3_settings: dict[str, Any], bucket: Path) -> None:
        good = {"store": "ok", "work folder": "ok", "disk of jobs": "ok"}
        small = {"max_model_bytes": 2**20, "max_dataset_bytes": 2**20} | s3_settings
        assert states(check_storage, tmp_path, **small) == good
        assert [path for path in bucket.rglob("*") if path.is_file()] == []
        for wrong in ({"store_url": "s3://no-such-bucket"}, {"s3_secret_access_key": "wrong"}):
            finding = found(check_storage, tmp_path, **(small | wrong))["store"]
            assert finding.status == "fail"
            assert "bucket" in finding.remedy

    @pytest.mark.parametrize(("folder", "name"), [("store", "store"), ("work", "work folder")])
    def test_a_file_where_a_folder_should_be(self, tmp_path: Path, folder: str, name: str) -> None:
        (tmp_path / folder).write_text("a file")
        assert states(check_storage, tmp_path)[name] == "fail"

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_of_somebody_else(self, tmp_path: Path) -> None:
        (tmp_path / "store").mkdir(mode=0o500)
        assert states(check_storage, tmp_path)["store"] == "fail"

    def test_a_file_system_that_takes_no_files(self, tmp_path: Path) -> None:
        refused = states(check_storage, tmp_path, store_dir="/proc/store", work_dir="/proc/work")
        assert refused == {"store": "fail", "work folder": "fail"}

    def test_a_full_disk(self, tmp_path: Path, small_disk: Path) -> None:
        room = os.statvfs(small_disk)
        (small_disk / "filler").write_bytes(bytes(room.f_bavail * room.f_bsize))
        full = states(check_storage, tmp_path, store_dir=small_disk)
        assert (full["store"], full["disk of the store"]) == ("fail", "warn")

    def test_less_room_than_the_limits_allow(self, tmp_path: Path) -> None:
        short = states(check_storage, tmp_path, max_model_bytes=2**60)
        assert short["disk of the store"] == short["disk of jobs"] == "warn"


class TestEngine:
    def test_torch_runs_and_a_worker_is_heard(self, sqlite_url: str, tmp_path: Path) -> None:
        database = Database(sqlite_url)
        worker = Liveness(tmp_path / "work", database, WorkerRecord("one", "cpu", 1, []))
        worker.start()
        while not list((tmp_path / "work" / "workers").iterdir()):
            pass
        try:
            assert states(check_engine, tmp_path) == {"engine": "ok", "worker": "ok"}
        finally:
            worker.stop()
            database.dispose()

    def test_too_little_memory_for_torch_and_no_device(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        settings = {"child_memory_bytes": 256 * 2**20, "worker_queue": "gpu"}
        assert states(check_engine, tmp_path, **settings) == {
            "engine": "fail",
            "gpu": "fail",
            "worker": "warn",
        }


def with_options(url: str, options: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}options={options.replace(' ', '%20')}"


def test_the_signing_key_is_read_and_never_made(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    path = settings.signing_key_file
    (none,) = check_signing_key(settings)
    assert (none.status, path.exists()) == ("ok", False)
    key = load_or_make(path)
    (good,) = check_signing_key(settings)
    assert (good.status, good.detail) == ("ok", f"results are signed by {key.id}")
    path.chmod(0o644)
    (open_to_all,) = check_signing_key(settings)
    assert (open_to_all.status, open_to_all.remedy) == ("warn", f"chmod 600 {path}")
    path.write_text("no key")
    (broken,) = check_signing_key(settings)
    assert broken.status == "fail"
