"""`python -m worker`: one worker process, configured by the environment."""

import logging
import os
import secrets
import socket
import sys

from celery import Celery

from core.artifacts.configured import configured_store
from core.db.database import Database
from core.logs import configure_logging
from core.reconciler import Reconciler
from core.settings import Settings, settings_from_env
from core.tracing import start_tracing, stop_tracing
from worker.attempt import Stages, Workplace
from worker.celery_app import make_celery
from worker.devices import NoDevice
from worker.liveness import Liveness, worker_answers
from worker.slots import Slots
from worker.supervisor import Supervisor
from worker.tasks import add_doorbell, hand_back_on_leaving, hand_back_on_signal

log = logging.getLogger(__name__)


def main() -> int:
    """Run a worker until SIGTERM or SIGINT, which hand its jobs back; returns the exit code."""
    settings = settings_from_env()
    try:
        return run(settings, Stages())
    except NoDevice as error:
        log.error("%s", error)
        return 2


def check() -> int:
    """0 when a worker of this machine gave a sign of life lately, else 1."""
    return 0 if worker_answers(settings_from_env().work_dir) else 1


def run(settings: Settings, stages: Stages) -> int:
    """Run a worker in this process, which handles its own signals. Returns the exit code; raises NoDevice."""
    configure_logging(settings)
    start_tracing("prunery-worker")
    database, store = Database(settings.database_url), configured_store(settings)
    name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    supervisor = Supervisor(Workplace(database, store, settings, stages), worker_id=name)
    slots = Slots(settings.worker_slots, supervisor.work)
    celery = make_celery(settings, supervisor.record.queues)
    add_doorbell(celery, slots)
    hand_back_on_signal(slots)
    hand_back_on_leaving(celery, slots)

    def wake(queue: str) -> None:
        # Not a ring for others: every worker looks for itself, also when its broker is dead.
        if queue in supervisor.record.queues:
            slots.wake()

    reconciler = Reconciler(database, store, settings, wake)
    liveness = Liveness(settings.work_dir, database, supervisor.record)
    reconciler.start()
    liveness.start()
    try:
        return _consume(celery, settings)
    finally:
        slots.join()
        liveness.stop()
        reconciler.stop()
        database.dispose()
        stop_tracing()


def _consume(celery: Celery, settings: Settings) -> int:
    """Wait for rings in this thread until a signal ends it."""
    host = f"prunery-{settings.worker_queue}-{os.getpid()}@{socket.gethostname()}"
    # Workers know of each other through the database alone.
    alone = {"without_mingle": True, "without_gossip": True, "without_heartbeat": True}
    worker = celery.Worker(hostname=host, loglevel=settings.log_level, quiet=True, **alone)
    worker.start()
    return int(worker.exitcode or 0)


if __name__ == "__main__":
    sys.exit(main())
