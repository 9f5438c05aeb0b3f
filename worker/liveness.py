"""Signs of life: a file for a health check on the same machine, a row for whoever asks the service."""

import logging
import os
import socket
import threading
import time
from pathlib import Path

from core.db.database import Database
from core.errors import DatabaseUnavailable
from core.workers.repository import STALE_SECONDS, WorkerRecord, beat, leave

log = logging.getLogger(__name__)

BEAT_SECONDS = 10.0


class Liveness:
    """While this process turns and its database answers, keeps its row and the file `{work}/workers/{host}.{pid}`."""

    def __init__(self, work_dir: Path, database: Database, record: WorkerRecord) -> None:
        self._database = database
        self._record = record
        self._sign = _folder(work_dir) / f"{socket.gethostname()}.{os.getpid()}"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="liveness", daemon=True)

    def start(self) -> None:
        """Begin to give signs."""
        self._sign.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._thread.start()

    def stop(self) -> None:
        """End, and take the signs away; the row stays, and goes stale, when the database does not answer."""
        self._stopped.set()
        self._thread.join(timeout=5)
        self._sign.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            try:
                with self._database.write() as session:
                    beat(session, self._record)
                self._sign.touch()
            except (DatabaseUnavailable, OSError) as error:
                log.warning("no sign of life: %s", error)
            if self._stopped.wait(BEAT_SECONDS):
                self._leave()
                return

    def _leave(self) -> None:
        try:
            with self._database.write() as session:
                leave(session, self._record.id)
        except DatabaseUnavailable as error:
            log.warning("cannot say that this worker left: %s", error)


def worker_answers(work_dir: Path) -> bool:
    """Whether a worker of this machine gave a sign lately; forgets those that did not."""
    now, fresh = time.time(), False
    for sign in _folder(work_dir).glob(f"{socket.gethostname()}.*"):
        if now - sign.stat().st_mtime < STALE_SECONDS:
            fresh = True
        else:
            sign.unlink(missing_ok=True)
    return fresh


def _folder(work_dir: Path) -> Path:
    return work_dir / "workers"
