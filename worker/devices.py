"""What this machine offers to jobs: cores always, accelerators where the worker serves the queue `gpu`."""

import os
import queue
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from core.settings import Settings

_QUERY = ("--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")
_MIB_PER_GIB = 1024


class NoDevice(Exception):
    """The machine does not offer what the settings promise."""


class Devices:
    """An equal share of the accelerators for each slot of a `gpu` worker, none for a `cpu` worker.

    Shares are fixed, so that a job finds what its slot has at once and never waits for another job's devices.
    `ids` names the devices of all of them, `memory_gib` is that of the smallest, 0 when it is not known.
    """

    def __init__(self, settings: Settings) -> None:
        self._free: queue.SimpleQueue[list[str]] = queue.SimpleQueue()
        memory = accelerators() if settings.worker_queue == "gpu" else {}
        shares = _for_slots(settings, list(memory))
        self.ids = [device for share in shares for device in share]
        self.memory_gib = min((memory[device] for device in self.ids), default=0.0)
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


def accelerators() -> dict[str, float]:
    """Ids of the NVIDIA devices that this process may use, each with its GiB of memory, 0 when that is not known.

    Loads no CUDA library into the worker.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible == "":
        return {}
    devices = _ask_nvidia()
    if visible is None:
        return {index: gib for index, _, gib in devices}
    return {name.strip(): _memory_of(name.strip(), devices) for name in visible.split(",") if name.strip()}


def _ask_nvidia() -> list[tuple[str, str, float]]:
    """Index, UUID and GiB of every device; empty where there is no driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        command = [program, *_QUERY]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)  # noqa: S603
        lines = [line.split(", ") for line in answer.stdout.splitlines()]
        return [(index, uuid, int(mib) / _MIB_PER_GIB) for index, uuid, mib in lines]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []


def _memory_of(name: str, devices: list[tuple[str, str, float]]) -> float:
    """A device is named by its index or by the beginning of its UUID; parts of a device (MIG) are not known."""
    found = (gib for index, uuid, gib in devices if name == index or uuid.startswith(name))
    return next(found, 0.0)


def _for_slots(settings: Settings, found: list[str]) -> list[list[str]]:
    if settings.worker_queue == "cpu":
        return [[] for _ in range(settings.worker_slots)]
    if len(found) < settings.worker_slots:
        raise NoDevice(
            f"PRUNERY_WORKER_QUEUE is gpu and PRUNERY_WORKER_SLOTS is {settings.worker_slots}, but this "
            f"machine offers {len(found)} NVIDIA devices; lower the slots, or set PRUNERY_WORKER_QUEUE=cpu."
        )
    size = len(found) // settings.worker_slots
    return [found[slot * size : (slot + 1) * size] for slot in range(settings.worker_slots)]
