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
    """An equal share of the accelerators for each slot of a `gpu` worker, none for a `cpu` worker.

    Shares are fixed, so that a job finds what its slot has at once and never waits for another job's devices.
    `ids` names the devices of all of them.
    """

    def __init__(self, settings: Settings) -> None:
        self._free: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        shares = _for_slots(settings)
        self.ids = [device for share in shares for device in share]
        for share in shares:
            self._free.put(share)

    @contextmanager
    def lend(self, count: int) -> Iterator[str]:
        """CUDA_VISIBLE_DEVICES of `count` devices that nobody else has, fewer where a share has fewer; "": none."""
        share = self._free.get_nowait()
        try:
            yield ",".join(share[:count])
        finally:
            self._free.put(share)


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


def _for_slots(settings: Settings) -> list[list[str]]:
    if settings.worker_queue == "cpu":
        return [[] for _ in range(settings.worker_slots)]
    found = accelerators()
    if len(found) < settings.worker_slots:
        raise NoDevice(
            f"PRUNERY_WORKER_QUEUE is gpu and PRUNERY_WORKER_SLOTS is {settings.worker_slots}, but this "
            f"machine offers {len(found)} NVIDIA devices; lower the slots, or set PRUNERY_WORKER_QUEUE=cpu."
        )
    size = len(found) // settings.worker_slots
    return [found[slot * size : (slot + 1) * size] for slot in range(settings.worker_slots)]
