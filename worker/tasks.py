"""What Celery may ask of this worker: to look for jobs when the bell rings, and to hand them back when it leaves."""

from typing import Any

from celery import Celery, bootsteps, signals

from core.queues import DOORBELL
from worker.slots import Slots


def add_doorbell(celery: Celery, slots: Slots) -> None:
    """Register the only task. It carries no job: the pool's thread claims and supervises until none is left."""

    @celery.task(name=DOORBELL, ignore_result=True)
    def doorbell() -> None:
        slots.run()


def hand_back_on_leaving(celery: Celery, slots: Slots) -> None:
    """Stop the slots as soon as the worker is asked to end, and on every other way out, before the pool is waited for."""

    class HandBack(bootsteps.StartStopStep):
        """Closes before the pool stops; without it a warm shutdown would wait for the jobs to end by themselves."""

        requires = ("celery.worker.components:Pool",)

        def close(self, worker: Any) -> None:
            slots.stop()

    celery.steps["worker"].add(HandBack)

    def on_signal(**_: Any) -> None:
        slots.stop()

    signals.worker_shutting_down.connect(on_signal, weak=False)
