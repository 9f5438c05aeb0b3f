"""What Celery asks of a worker: to look for jobs when the bell rings, to hand them back when it leaves."""

import os
import signal
from types import FrameType
from typing import Any

from celery import Celery, bootsteps, signals
from celery.worker import state

from core.queues import DOORBELL
from worker.slots import Slots


def add_doorbell(celery: Celery, slots: Slots) -> None:
    """Register the only task. It carries no job: its thread claims and supervises until none is left."""

    @celery.task(name=DOORBELL, ignore_result=True)
    def doorbell() -> None:
        slots.run()


def hand_back_on_leaving(celery: Celery, slots: Slots) -> None:
    """Stop the slots as soon as the worker is asked to end, and on every other way out of Celery."""

    class HandBack(bootsteps.StartStopStep):
        """Closes before the pool stops; without it a warm shutdown would wait for the jobs to end."""

        requires = ("celery.worker.components:Pool",)

        def start(self, worker: Any) -> None:
            if slots.stopping():  # asked to end before Celery listened for signals
                state.should_stop = os.EX_OK

        def close(self, worker: Any) -> None:
            slots.stop()

    celery.steps["worker"].add(HandBack)

    def on_signal(**_: Any) -> None:
        slots.stop()

    signals.worker_shutting_down.connect(on_signal, weak=False)


def hand_back_on_signal(slots: Slots) -> None:
    """Hear SIGTERM and SIGINT until Celery does: jobs may run by then already."""

    def on_signal(number: int, frame: FrameType | None) -> None:
        slots.stop()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
