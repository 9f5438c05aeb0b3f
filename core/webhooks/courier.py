"""The thread that sends what is in the outbox, in every API process; none leads, since claims are conditional.

It is not the reconciler's: a receiver that takes its time must keep no lost lease waiting.
"""

import logging
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for

from core.db import Database
from core.errors import DatabaseUnavailable
from core.settings import Settings
from core.webhooks import outbox
from core.webhooks.outbox import Claim
from core.webhooks.sender import TOTAL_SECONDS, Sender

AT_ONCE = 8
"""Attempts of one process at the same time, each of another webhook."""

log = logging.getLogger(__name__)


class Courier:
    """Claims deliveries that are due, sends them, and writes what came of it."""

    def __init__(self, database: Database, settings: Settings, sender: Sender) -> None:
        self._database = database
        self._settings = settings
        self._sender = sender
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Claim no more, and wait for the attempts that are under way, which have a deadline."""
        self._stop.set()
        self._thread.join(TOTAL_SECONDS + 1)
        self._pool.shutdown()

    def deliver(self) -> int:
        """Send everything that is due, until nothing is; returns the number of attempts."""
        attempts = 0
        under_way: set[Future[None]] = set()
        while not self._stop.is_set():
            claims = self._claim(AT_ONCE - len(under_way))
            under_way |= {self._pool.submit(self._attempt, claim) for claim in claims}
            attempts += len(claims)
            if not under_way:
                break
            # Not longer than a poll: what becomes due meanwhile need not wait for a slow receiver.
            ended, under_way = wait_for(under_way, self._settings.poll_seconds, FIRST_COMPLETED)
            for future in ended:
                future.result()
        return attempts

    def _run(self) -> None:
        while True:
            try:
                self.deliver()
            except DatabaseUnavailable as error:
                log.warning("courier: %s", error)
            except Exception:  # whatever failed, what is due stays in the outbox for the next pass
                log.exception("courier")
            if self._stop.wait(self._settings.poll_seconds):
                return

    def _claim(self, limit: int) -> list[Claim]:
        with self._database.read() as session:
            found = outbox.due(session, limit)
        claims = []
        for delivery_id in found:
            with self._database.write() as session:
                claim = outbox.claim(session, delivery_id)
            if claim is not None:
                claims.append(claim)
        return claims

    def _attempt(self, claim: Claim) -> None:
        outcome = self._sender.send(claim)
        if outcome.error is not None:
            log.info(
                "%s to %s, attempt %d: %s", claim.delivery_id, claim.webhook_id, claim.attempt, outcome.error
            )
        with self._database.write() as session:
            outbox.settle(session, claim, outcome, self._settings)
