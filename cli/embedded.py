"""The whole service on one machine: the API in this process, one worker beside it, one folder for data."""

import contextlib
import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType

import typer
import uvicorn

from core.logs import configure_logging
from core.settings import Settings
from core.tracing import start_tracing

log = logging.getLogger(__name__)

_LONGEST_PAUSE = 30.0
_CLOSING_SECONDS = 3


class PortTaken(typer.TyperException):
    """Something else listens on the port."""


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket, so that the port is known to be free before anything starts; port 0 picks a free one.

    Raises PortTaken, and OSError for an address that this machine does not have.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortTaken(
                    f"PRUNERY_PORT: {port} is taken on {host}: stop what listens there, or use --port"
                ) from None
            raise
        yield listener


def run(settings: Settings, listener: socket.socket) -> None:
    """Serve on `listener` until SIGINT or SIGTERM, then stop the worker; nothing is left behind."""
    from app.main import SERVICE, create_app

    configure_logging(settings)
    start_tracing(SERVICE)
    config = uvicorn.Config(
        create_app(settings),
        log_config=None,
        access_log=settings.log_level == "DEBUG",
        server_header=False,
        timeout_graceful_shutdown=_CLOSING_SECONDS,
    )
    # The server raises the signal again once it has shut down; by default that would end this process.
    signal.signal(signal.SIGTERM, _interrupt)
    keeper = WorkerKeeper(patience=settings.cancel_grace_seconds + 5)
    keeper.start()
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        log.info("stopping")
    finally:
        keeper.stop()


class WorkerKeeper:
    """Keeps one worker process alive, starting it again when it dies.

    The worker leads its own session, so that Ctrl-C in the terminal reaches only this process, which then
    stops the worker in order. The worker asks the kernel to die with the thread that started it: that thread
    lives in here.
    """

    def __init__(self, *, patience: float) -> None:
        self._patience = patience
        self._leaving = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="worker-keeper")

    def start(self) -> None:
        """Start the worker."""
        self._thread.start()

    def stop(self) -> None:
        """Let the worker hand its job back, then end it; a second Ctrl-C meanwhile kills it at once."""
        self._leaving.set()
        while self._thread.is_alive():
            try:
                self._thread.join()
            except KeyboardInterrupt:
                self._hurry.set()

    def _keep(self) -> None:
        pause = 1.0
        while not self._leaving.is_set():
            began = time.monotonic()
            process = _start_worker()
            while process.poll() is None and not self._leaving.wait(0.2):
                pass
            if self._leaving.is_set():
                self._end(process)
                return
            pause = 1.0 if time.monotonic() - began > _LONGEST_PAUSE else min(2 * pause, _LONGEST_PAUSE)
            log.error(
                "the worker ended with status %d; another one starts in %.0f s", process.returncode, pause
            )
            self._leaving.wait(pause)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        deadline = time.monotonic() + self._patience
        while process.poll() is None and time.monotonic() < deadline and not self._hurry.wait(0.05):
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _start_worker() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cli.tethered", str(os.getpid())]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603 - our own module


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
