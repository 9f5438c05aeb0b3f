"""`prunery serve` as a person starts it: a process of its own on a free port."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from client import PruneryClient

COMMAND = (sys.executable, "-m", "cli", "serve")
_START_SECONDS, _STOP_SECONDS = 90.0, 60.0


@dataclass(frozen=True)
class Served:
    """A running service: its process, where its data is, and what it has said so far."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    log: Path

    def said(self) -> str:
        """Everything on its standard output and error."""
        return self.log.read_text("utf-8", errors="replace")

    @property
    def url(self) -> str:
        """The address that it printed."""
        return re.findall(r"listens on (http://\S+)", self.said())[-1]

    @property
    def key(self) -> str:
        """The key in its file."""
        return (self.data_dir / "api-key").read_text("ascii").strip()

    def client(self) -> PruneryClient:
        """A client of it."""
        return PruneryClient(self.url, self.key)

    def family(self) -> list[psutil.Process]:
        """Its process and all that it started."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def interrupt(self) -> int:
        """Press Ctrl-C, as it were, and return the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(_STOP_SECONDS)


@contextmanager
def served(data_dir: Path) -> Iterator[Served]:
    """Start the service and wait until a worker is there; whatever is left at the end is killed."""
    log = data_dir.with_suffix(".log")
    with log.open("wb") as output:
        command = [*COMMAND, "--port", "0", "--data-dir", str(data_dir)]
        process = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )
    service = Served(process, data_dir, log)
    try:
        wait_until(lambda: "Data in" in service.said() and " ready." in service.said(), service)
        yield service
    finally:
        left = [] if process.poll() is not None else service.family()
        for one in left:
            if one.is_running():
                os.kill(one.pid, signal.SIGKILL)
        process.wait()


def wait_until(condition: object, service: Served, seconds: float = _START_SECONDS) -> None:
    """Wait for a condition (a callable), and fail with what the service said when it does not come."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, service.said()[-2000:]
        time.sleep(0.1)
