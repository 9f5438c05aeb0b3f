"""What this machine offers to jobs: cores always, accelerators where the worker serves the queue `gpu`."""

import os
import queue
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from core.settings import Settings

_QUERY = ("--query-gpu=index", "--format=csv,noheader")


class NoDevice(Exception):
    """The machine does not offer what the settings promise."""


class Devices:
    """One accelerator for each slot of a `gpu` worker, none for a `cpu` worker; lent to one job at a time."""

    def __init__(self, settings: Settings) -> None:
        self._free: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        for device in _for_slots(settings):
            self._free.put(device)

    @contextmanager
    def lend(self) -> Iterator[str | None]:
        """The id for CUDA_VISIBLE_DEVICES of a device that nobody else has; None: compute on the cores."""
        device = self._free.get_nowait()
        try:
            yield device
        finally:
            self._free.put(device)


def accelerators() -> list[str]:
    """Ids of the NVIDIA devices that this process may use, without loading a CUDA library into the worker."""
    if visible := os.environ.get("CUDA_VISIBLE_DEVICES"):
        return [device.strip() for device in visible.split(",") if device.strip()]
    program = shutil.which("nvidia-smi")
    if program is None or visible == "":
        return []
    try:
        command = [program, *_QUERY]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return []
    return answer.stdout.split()


def _for_slots(settings: Settings) -> list[str | None]:
    if settings.worker_queue == "cpu":
        return [None] * settings.worker_slots
    found: list[str | None] = [*accelerators()]
    if len(found) < settings.worker_slots:
        raise NoDevice(
            f"PRUNERY_WORKER_QUEUE is gpu and PRUNERY_WORKER_SLOTS is {settings.worker_slots}, but this "
            f"machine offers {len(found)} NVIDIA devices; lower the slots, or set PRUNERY_WORKER_QUEUE=cpu."
        )
    return found[: settings.worker_slots]
