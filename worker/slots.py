"""How many jobs run at once, and what begins them: a ring, or the worker's own look at the database."""

import logging
import threading
from collections.abc import Callable

log = logging.getLogger(__name__)

Work = Callable[[Callable[[], bool]], bool]
"""Takes one job to its end, told by its argument whether to hand it back; says whether there was one."""


class Slots:
    """`count` places for jobs."""

    def __init__(self, count: int, work: Work) -> None:
        self._count = count
        self._free = threading.Semaphore(count)
        self._work = work
        self._own: list[threading.Thread] = []
        self._stopping = False

    def stopping(self) -> bool:
        """Whether the worker is leaving: no job is begun any more, and running ones are handed back."""
        return self._stopping

    def run(self) -> None:
        """Work in the caller's thread until nothing is left; returns at once when every slot is taken."""
        if not self.stopping() and self._free.acquire(blocking=False):
            self._run_held()

    def wake(self) -> None:
        """Work in threads of our own, one for each free slot: how jobs begin when no ring arrives."""
        for _ in range(self._count):
            if self.stopping() or not self._free.acquire(blocking=False):
                return
            thread = threading.Thread(target=self._run_held, name="slot")
            self._own = [old for old in self._own if old.is_alive()] + [thread]
            thread.start()

    def stop(self) -> None:
        """Begin no more jobs, and let the running ones know. Safe in a signal handler: it takes no lock."""
        self._stopping = True

    def join(self) -> None:
        """Stop, and wait until the jobs in threads of our own are handed back."""
        self.stop()
        for thread in tuple(self._own):
            thread.join()

    def _run_held(self) -> None:
        try:
            while not self.stopping() and self._work(self.stopping):
                pass
        except Exception:
            log.exception("a slot failed; the next ring or look at the database starts it again")
        finally:
            self._free.release()
