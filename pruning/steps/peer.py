"""`python -m pruning.steps.peer RANK FOLDER`: one more process that trains with a job's own.

Its stdin has one order, then the name of each training to take part in; the end of it is the end of this process, so
that it outlives the job's own by nothing. It imports nothing heavy before it listens.
"""

import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def main(rank: int, folder: Path) -> int:
    """Train until there is nothing more to do; returns the exit code of a failure."""
    for polite in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # meant for the job's own process, which then ends this one
        signal.signal(polite, signal.SIG_IGN)
    lines = _lines()
    order = json.loads(next(lines))
    from pruning.errors import OutOfMemory
    from pruning.steps.crew import LEFT_ALONE, OUT_OF_MEMORY
    from pruning.training.group import GroupBroken

    try:
        _train(rank, folder, order, lines)
    except OutOfMemory:
        return OUT_OF_MEMORY
    except GroupBroken:
        return LEFT_ALONE
    except Exception:
        traceback.print_exc()
    return 1


def _train(rank: int, folder: Path, order: dict[str, Any], names: Iterator[str]) -> None:
    import torch

    from pruning.steps.crew import Inputs
    from pruning.steps.job import deterministic, memory_errors, open_job, quiet
    from pruning.steps.progress import Progress
    from pruning.steps.trained import TRAININGS
    from pruning.training.group import Group, join

    torch.set_num_threads(order["threads"])
    inputs = Inputs.from_json(order["inputs"])
    silent = Progress(lambda event: None, lambda: None)
    with memory_errors(), quiet():
        job = open_job(
            inputs.spec, inputs.model_dir, inputs.dataset_dir, inputs.out, silent, inputs.teacher_dir
        )
        with deterministic(job.spec.seed, job.device):
            (folder / f"ready-{rank}").touch()
            size = job.spec.devices
            join(rank, size, job.device, folder)
            for name in names:
                TRAININGS[name](job, Group(rank, size))


def _lines() -> Iterator[str]:
    """The lines of stdin, read by a thread that ends the process when stdin ends, whatever it is doing."""
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def listen() -> None:
        with open(sys.stdin.fileno(), "rb", closefd=False) as pipe:
            for line in pipe:
                lines.put(line.decode())
        os._exit(0)

    threading.Thread(target=listen, name="job", daemon=True).start()
    while True:
        yield lines.get().strip()


if __name__ == "__main__":
    code = main(int(sys.argv[1]), Path(sys.argv[2]))
    sys.stderr.flush()
    os._exit(code)  # not by way of threads that wait for processes which are gone
