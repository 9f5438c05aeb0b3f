"""Rings the workers; the only file of the door that knows Celery."""

import logging
import queue
import threading
from typing import TYPE_CHECKING, Literal

from core.queues import DOORBELL, QUEUES, broker_options
from core.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

_log = logging.getLogger(__name__)
_EXPIRES_SECONDS = 60
# A broker that hangs may hold up the bell, never a request; the reconciler rings again.
_TIMEOUTS = {"socket_timeout": 2.0, "socket_connect_timeout": 1.0, "max_retries": 0}


class Doorbell:
    """Rings in a thread of its own: `ring` returns at once, whatever the broker does; a ring may be lost."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._wanted: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
        self._state: Literal["ok", "unreachable", "unknown"] = "unknown"

    @property
    def state(self) -> Literal["ok", "unreachable", "unknown"]:
        """How the last ring went; unknown before the first."""
        return self._state

    def start(self) -> None:
        """Begin to ring."""
        self._thread.start()

    def stop(self) -> None:
        """Ring what is waiting, then end; a broker that hangs is not waited for."""
        self._wanted.put(None)
        self._thread.join(timeout=3)

    def ring(self, name: str) -> None:
        """Ask for a look at the queue `name`."""
        self._wanted.put(name)

    def _run(self) -> None:
        celery = _producer(self._settings)
        while (name := self._wanted.get()) is not None:
            try:
                celery.send_task(
                    DOORBELL, queue=name, expires=_EXPIRES_SECONDS, ignore_result=True, retry=False
                )
                self._state = "ok"
            except Exception as error:  # the bell must survive whatever a broker can do
                self._state = "unreachable"
                _log.warning(
                    "The broker cannot be reached (%s); jobs wait until it can.", type(error).__name__
                )
        celery.close()


def _producer(settings: Settings) -> "Celery":
    from celery import Celery  # takes its time, which the start of the service need not wait for
    from kombu import Exchange, Queue

    celery = Celery("prunery-door", broker=settings.broker_url, set_as_current=False)
    options = broker_options(settings)
    remote = not settings.broker_url.startswith("filesystem:")
    celery.conf.update(
        broker_transport_options=options | _TIMEOUTS if remote else options,
        broker_connection_timeout=1.0,
        broker_connection_retry=False,
        task_serializer="json",
        task_ignore_result=True,
        task_create_missing_queues=False,
        task_queues=[Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
    )
    return celery
