"""Signs of life when the database does not answer: none is given, and the thread goes on."""

import logging
from pathlib import Path

import pytest

from core.workers.repository import WorkerRecord, list_workers
from tests.support.workers import FlickeringDatabase, until
from worker import liveness
from worker.liveness import Liveness, worker_answers


def test_no_sign_is_given_while_the_database_is_away(
    sqlite_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(liveness, "BEAT_SECONDS", 0.02)
    caplog.set_level(logging.WARNING)
    database = FlickeringDatabase(sqlite_url)
    database.away = True
    signs = Liveness(tmp_path, database, WorkerRecord("w", "cpu", 1, []))
    signs.start()
    until(lambda: "no sign of life: The database does not answer." in caplog.text, 10, lambda: "a warning")
    assert not worker_answers(tmp_path)
    database.away = False
    until(lambda: worker_answers(tmp_path), 10, lambda: "a sign of life")
    database.away = True
    signs.stop()
    assert "cannot say that this worker left: The database does not answer." in caplog.text
    assert not worker_answers(tmp_path)
    with database.read() as session:
        assert [worker.id for worker in list_workers(session, None)] == ["w"]
    database.dispose()
