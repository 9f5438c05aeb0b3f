"""Names that API and workers ring each other by, and how they reach the broker. Imports no Celery.

A queue says what a worker must have to run its jobs: nothing (`cpu`), a GPU (`gpu`), or GPUs of at least so many
GiB (`gpu-16g`). The exact needs are the job's own, and are compared when it is claimed.
"""

import json
import secrets
from pathlib import Path
from typing import Any, Literal

from core.settings import Settings

DOORBELL = "prunery.doorbell"
"""The only task. Its message carries nothing: it says "look", and a lost or doubled one does no harm."""

Kind = Literal["cpu", "gpu"]
KINDS: tuple[Kind, ...] = ("cpu", "gpu")
"""Kinds of workers."""

RUNGS = (16, 32, 64, 128)
"""GiB of memory of a GPU from which on a worker hears the queue of that size too."""

QUEUES = (*KINDS, *(f"gpu-{gib}g" for gib in RUNGS))


def queue_for(*, needs_gpu: bool, gpu_memory_gib: int = 0) -> str:
    """The queue of a job; every worker that can run it takes from that queue, and few others do."""
    if not needs_gpu:
        return "cpu"
    return next((f"gpu-{gib}g" for gib in reversed(RUNGS) if gib <= gpu_memory_gib), "gpu")


def taken_by(kind: str, gpu_memory_gib: float = 0.0) -> tuple[str, ...]:
    """The queues that a worker takes jobs from, its own kind's first: what needs no GPU runs on one as well."""
    if kind == "cpu":
        return ("cpu",)
    return ("gpu", *(f"gpu-{gib}g" for gib in RUNGS if gib <= gpu_memory_gib), "cpu")


def broker_options(settings: Settings) -> dict[str, Any]:
    """Celery's `broker_transport_options`. Creates the folders of the file system broker.

    The timeouts keep a Redis that accepts connections but never answers from blocking a caller for ever.
    """
    if not settings.broker_url.startswith("filesystem:"):
        return {"socket_timeout": 30.0, "socket_connect_timeout": 2.0, "retry_on_timeout": False}
    root = settings.data_dir / "broker"
    folders = {name: root / name for name in ("messages", "control", "processed")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for queue in QUEUES:
        _bind(folders["control"], queue)
    return {
        "data_folder_in": str(folders["messages"]),
        "data_folder_out": str(folders["messages"]),
        "control_folder": str(folders["control"]),
        "processed_folder": str(folders["processed"]),
    }


def _bind(control: Path, queue: str) -> None:
    """Write the file in which kombu keeps an exchange's queues: routing key, pattern, queue.

    kombu writes it in place: a process killed in between leaves an empty file, on which every later one would
    fail. Where the whole file is there already, kombu only reads it.
    """
    path = control / f"{queue}.exchange"
    binding = json.dumps([[queue, "", queue]])
    if path.is_file() and path.read_text("utf-8") == binding:
        return
    draft = control / f".{queue}.{secrets.token_hex(8)}"
    draft.write_text(binding, "utf-8")
    draft.replace(path)
