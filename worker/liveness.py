"""A sign of life that a health check on the same machine can read without the broker."""

import logging
import os
import socket
import threading
import time
from pathlib import Path

from core.db.database import Database
from core.errors import DatabaseUnavailable

log = logging.getLogger(__name__)

BEAT_SECONDS = 10.0
FRESH_SECONDS = 60.0


class Liveness:
    """Touches the file `{work}/workers/{host}.{pid}` while this process turns and its database answers."""

    def __init__(self, work_dir: Path, database: Database) -> None:
        self._database = database
        self._sign = _folder(work_dir) / f"{socket.gethostname()}.{os.getpid()}"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="liveness", daemon=True)

    def start(self) -> None:
        """Begin to give signs."""
        self._sign.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._thread.start()

    def stop(self) -> None:
        """End, and take the sign away."""
        self._stopped.set()
        self._thread.join(timeout=1)
        self._sign.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            try:
                self._database.check()
                self._sign.touch()
            except (DatabaseUnavailable, OSError) as error:
                log.warning("no sign of life: %s", error)
            if self._stopped.wait(BEAT_SECONDS):
                return


def worker_answers(work_dir: Path) -> bool:
    """Whether a worker of this machine gave a sign lately; forgets those that did not."""
    now, fresh = time.time(), False
    for sign in _folder(work_dir).glob(f"{socket.gethostname()}.*"):
        if now - sign.stat().st_mtime < FRESH_SECONDS:
            fresh = True
        else:
            sign.unlink(missing_ok=True)
    return fresh


def _folder(work_dir: Path) -> Path:
    return work_dir / "workers"
