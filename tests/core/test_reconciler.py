"""The thread repairs and rings, and outlives what fails."""

import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from core import reconciler as module
from core.artifacts.local import LocalStore
from core.clock import now
from core.db import Database
from core.jobs import leases, repository
from core.jobs.states import Status
from core.jobs.tables import Job
from core.reconciler import Reconciler
from core.settings import Settings
from tests.support.ledger import make_job

PATIENCE = 20


def test_the_thread_requeues_rings_and_survives_a_deaf_broker(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0)
    settings = Settings(data_dir=tmp_path, poll_seconds=0.05, retry_backoff_seconds=0)
    store = LocalStore(settings.store_dir)
    (settings.store_dir / "incoming" / "dead").write_bytes(b"half")
    with database.write() as session:
        job = make_job(session)
        leases.claim(session, worker_id="w", queues=["cpu"], lease_seconds=60)
        session.execute(update(Job).values(lease_until=now(session) - timedelta(seconds=1)))
    rung: list[str] = []
    heard = threading.Event()

    def ring(queue: str) -> None:
        rung.append(queue)
        if len(rung) == 1:
            raise ConnectionError("the broker is deaf")
        heard.set()

    reconciler = Reconciler(database, store, settings, ring)
    reconciler.start()
    try:
        assert heard.wait(PATIENCE)
    finally:
        reconciler.stop()
    assert set(rung) == {"cpu"}
    with database.read() as session:
        found = repository.get(session, job.owner_id, job.id)
    assert (found.status, found.failures) == (Status.QUEUED, 1)


def test_the_thread_outlives_an_error_that_nobody_expects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    again = threading.Event()

    def fail(*_: object) -> None:
        if caplog.records:
            again.set()
        raise RuntimeError("something nobody thought of")

    monkeypatch.setattr(module, "reconcile", fail)
    settings = Settings(data_dir=tmp_path, poll_seconds=0.02)
    database = Database(f"sqlite:///{tmp_path}/prunery.db")
    reconciler = Reconciler(database, LocalStore(settings.store_dir), settings, lambda queue: None)
    reconciler.start()
    try:
        assert again.wait(PATIENCE)
    finally:
        reconciler.stop()
        database.dispose()
    assert "something nobody thought of" in caplog.text


def test_the_thread_waits_for_a_database_that_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(data_dir=tmp_path, poll_seconds=0.02)
    database = Database("sqlite:////nowhere/at/all.db")
    reconciler = Reconciler(database, LocalStore(settings.store_dir), settings, lambda queue: None)
    reconciler.start()
    deadline = time.monotonic() + PATIENCE
    while len(caplog.records) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    reconciler.stop()
    database.dispose()
    assert [record.levelname for record in caplog.records[:2]] == ["WARNING", "WARNING"]
