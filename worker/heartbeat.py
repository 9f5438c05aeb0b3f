"""The thread that keeps an attempt's lease: it writes the child's news and brings back the answer."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.db.database import Database
from core.errors import DatabaseUnavailable, LeaseLost
from core.jobs import logs
from core.jobs.attempts import Renewal, Token
from core.jobs.events import NewEvent
from core.jobs.leases import renew
from core.jobs.states import Status
from core.jobs.tables import Job
from core.settings import Settings
from pruning.events import Event
from worker.joblog import AttemptLog

log = logging.getLogger(__name__)

WRITE_SECONDS = 1.0
"""Least time between two writes: at most one row of progress a second."""

LOOK_SECONDS = 2.0
"""How often a silent attempt looks whether it is to stop; a read, while a renewal is a write."""

LOG_SECONDS = 5.0
"""Least time between two writes of the attempt's log, which is written whole, with a renewal."""

_NO_METRICS = ("phase", "fraction", "message")

KEPT_EVENTS = 2000
"""Events kept while the database is away; beyond it the oldest give way."""


class Heartbeat:
    """Renews one lease until it is closed.

    Every database call is made in a thread of its own, so that a database that hangs can stop neither the
    supervision of the child nor the self-fence. `lost` says that the token is no longer valid,
    `cancel_requested` that the owner wants the job stopped, `pause_requested` that it is to rest; a pause may be
    taken back. `log` is written with the renewals.
    """

    def __init__(self, database: Database, token: Token, settings: Settings, *, claimed_at: float) -> None:
        self._database = database
        self._token = token
        self._settings = settings
        self._renewed_at = claimed_at
        self._logged_at = float("-inf")
        self.log = AttemptLog(settings)
        self._wake = threading.Condition()
        self._news: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self._closing = False
        self.lost = False
        self.cancel_requested = False
        self.pause_requested = False
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._beat,), name=f"heartbeat-{token.job_id}", daemon=True
        )
        self._thread.start()

    @property
    def age(self) -> float:
        """Seconds since the last renewal that succeeded was begun: the lease is at least as young as that."""
        return time.monotonic() - self._renewed_at

    def tell(self, event: Event) -> None:
        """Pass on what the child said with the next renewal; of several progress events only the last."""
        with self._wake:
            if event.type == "progress":
                self._news = deque((old for old in self._news if old.type != "progress"), KEPT_EVENTS)
            self._news.append(event)
            self._wake.notify()

    def close(self) -> list[Event]:
        """Stop renewing and return the news that was not written yet, oldest first."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(self._settings.lease_seconds)
        return self._take()

    def _beat(self) -> None:
        while not self.lost and (duty := self._next_duty()):
            try:
                duty()
            except LeaseLost:
                self.lost = True
            except DatabaseUnavailable as error:
                log.warning("%s: %s", self._token.job_id, error)
                self._pause()
            except Exception:
                # Whatever it is: on a lease that nobody renews, the self-fence ends the child in time.
                log.exception("%s: the lease could not be renewed", self._token.job_id)
                self._pause()

    def _next_duty(self) -> Callable[[], None] | None:
        """Sleep until there is something to do: a renewal, or a look for a wish to stop; None when closing."""
        looked_at = time.monotonic()
        with self._wake:
            while not self._closing:
                patience = WRITE_SECONDS if self._news else self._settings.heartbeat_seconds
                write_at = self._renewed_at + min(patience, self._settings.heartbeat_seconds)
                now = time.monotonic()
                if now >= write_at:
                    return self._renew
                if now >= looked_at + LOOK_SECONDS:
                    return self._look
                self._wake.wait(min(write_at, looked_at + LOOK_SECONDS) - now)
        return None

    def _pause(self) -> None:
        with self._wake:
            if not self._closing:
                self._wake.wait(min(WRITE_SECONDS, self._settings.heartbeat_seconds))

    def _renew(self) -> None:
        started, news = time.monotonic(), self._take()
        tail = self.log.news() if started >= self._logged_at + LOG_SECONDS else None
        try:
            with self._database.write() as session:
                renewal = renew_with(session, self._token, news, self._settings)
                if tail is not None:
                    logs.write(session, self._token.job_id, self._token.attempt, tail)
        except (
            DatabaseUnavailable
        ):  # after any other error without the news: they may be what could not be written
            with self._wake:
                self._news.extendleft(reversed(news))
            raise
        self._renewed_at = started
        if tail is not None:
            self.log.written(tail)
            self._logged_at = started
        self._hear(renewal)

    def _look(self) -> None:
        with self._database.read() as session:
            status = session.scalars(select(Job.status).where(Job.id == self._token.job_id)).one_or_none()
        self._hear(Renewal(cancel=status == Status.CANCELING, pause=status == Status.PAUSING))

    def _hear(self, renewal: Renewal) -> None:
        self.cancel_requested = self.cancel_requested or renewal.cancel
        self.pause_requested = renewal.pause

    def _take(self) -> list[Event]:
        with self._wake:
            news = list(self._news)
            self._news.clear()
            return news


def renew_with(session: Session, token: Token, news: Sequence[Event], settings: Settings) -> Renewal:
    """Renew a lease and write news with it: a row for each event, and the latest phase, fraction and metrics.

    Raises LeaseLost.
    """
    phase, fraction = None, None
    metrics: dict[str, Any] = {}
    for event in news:
        if event.type in ("phase", "progress"):
            phase = event.data.get("phase") or phase
        if event.type == "progress":
            fraction = event.data.get("fraction")
            metrics |= {name: value for name, value in event.data.items() if name not in _NO_METRICS}
        if event.type == "metric":
            metrics[str(event.data.get("name"))] = event.data.get("value")
    return renew(
        session,
        token,
        lease_seconds=settings.lease_seconds,
        events=[NewEvent(event.type, event.data) for event in news],
        phase=phase,
        progress=fraction,
        metrics=metrics,
        events_per_job=settings.events_per_job,
    )
