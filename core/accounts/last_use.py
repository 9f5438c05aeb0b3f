"""When each key was last used, written once a minute by a thread, so that no request waits for the write."""

import logging
import threading
import time
from datetime import timedelta

from sqlalchemy import update

from core.accounts.tables import ApiKey
from core.clock import now
from core.db import Database
from core.errors import DatabaseUnavailable

WRITE_SECONDS = 60.0

log = logging.getLogger(__name__)


class LastUse:
    """Collects uses of keys; a process that is killed forgets those of its last minute."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._uses: dict[str, float] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="last-use", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float = 10) -> None:
        """Write what is collected, and end; waits at most `timeout` seconds."""
        self._stop.set()
        self._thread.join(timeout)

    def note(self, key_id: str) -> None:
        """A key is used now."""
        with self._lock:
            self._uses[key_id] = time.monotonic()

    def write(self) -> None:
        """Write what was collected since the last time; raises DatabaseUnavailable."""
        with self._lock:
            uses, self._uses = self._uses, {}
        if not uses:
            return
        with self._database.write() as session:
            at, clock = now(session), time.monotonic()
            # In the order of their ids, so that two processes do not wait for each other.
            for key_id, used in sorted(uses.items()):
                moment = at - timedelta(seconds=clock - used)
                older = ApiKey.last_used_at.is_(None) | (ApiKey.last_used_at < moment)
                session.execute(
                    update(ApiKey).where(ApiKey.id == key_id, older).values(last_used_at=moment),
                    execution_options={"synchronize_session": False},
                )

    def _run(self) -> None:
        ended = False
        while not ended:
            ended = self._stop.wait(WRITE_SECONDS)
            try:
                self.write()
            except DatabaseUnavailable as error:
                log.warning("the last use of keys is not written: %s", error)
