"""The thread that keeps the ledger right, in every API and every worker process."""

import logging
import threading
import time
from collections.abc import Callable, Sequence

from core.artifacts.store import Store
from core.db import Database
from core.errors import DatabaseUnavailable
from core.jobs.reconcile import reconcile
from core.settings import Settings
from core.sweep import sweep

SWEEP_SECONDS = 3600

log = logging.getLogger(__name__)


class Reconciler:
    """Runs `reconcile` every `poll_seconds` and `sweep` every hour; rings where due jobs were not heard.

    `ring` is called with the name of a queue, from the thread; it may be slow or fail without harm. `chores`
    are done in every pass too.
    """

    def __init__(
        self,
        database: Database,
        store: Store,
        settings: Settings,
        ring: Callable[[str], None],
        chores: Sequence[Callable[[], object]] = (),
    ) -> None:
        self._database = database
        self._store = store
        self._settings = settings
        self._ring = ring
        self._chores = chores
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float = 10) -> None:
        """Ask the thread to end, and wait for it at most `timeout` seconds."""
        self._stop.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        next_sweep = time.monotonic() + SWEEP_SECONDS
        while not self._stop.wait(self._settings.poll_seconds):
            try:
                self._pass()
                if time.monotonic() >= next_sweep:
                    next_sweep = time.monotonic() + SWEEP_SECONDS
                    log.info("swept %s", sweep(self._database, self._store, self._settings))
            except DatabaseUnavailable as error:
                log.warning("reconciler: %s", error)
            except (
                Exception
            ):  # whatever failed, the next pass may succeed; without this thread nothing is repaired
                log.exception("reconciler")

    def _pass(self) -> None:
        done = reconcile(self._database, self._settings)
        if done.expired or done.timed_out:
            log.warning("%d leases had run out, %d jobs had waited too long", done.expired, done.timed_out)
        for queue in done.ring:
            try:
                self._ring(queue)
            except Exception as error:  # any broker's, and the next pass rings again
                log.warning("cannot ring for queue %s: %s", queue, error)
        for chore in self._chores:
            chore()
