"""How many requests one API process answers: jobs read at a steady rate, and one key posted a hundred times at once.

python -m benchmarks.api_load --database-url postgresql://postgres@127.0.0.1:5432/postgres --rate 200 --seconds 60

Makes a database on that PostgreSQL and drops it at the end; the API is `uvicorn` in a process of its own. Requests
are sent when they are due, whatever became of the earlier ones: a slow answer delays no other and hides in no average.
"""

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex

import httpx
import psutil
import psycopg
from psycopg import sql
from sqlalchemy import make_url

from core.accounts.repository import create_key, create_owner
from core.db import Database, migrate
from core.settings import Settings
from tests.support.uploads import dataset_files, model_files

PARALLEL_POSTS = 100
CONNECTIONS = 32
"""That GET requests share: one that is due waits while all are busy."""
_START_SECONDS = 60.0
_CONNECTIONS = httpx.Limits(max_connections=PARALLEL_POSTS, max_keepalive_connections=PARALLEL_POSTS)


def main() -> None:
    """Print the figures of both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--database-url", required=True, help="a PostgreSQL on which databases can be made")
    parser.add_argument("--rate", type=int, default=200, help="GET requests per second")
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _database(options.database_url) as url:
        settings = Settings(data_dir=Path(folder), database_url=url, port=_free_port())
        key = _key(settings)
        with _api(settings) as process:
            base = f"http://127.0.0.1:{settings.port}"
            asyncio.run(_measure(base, key, options.rate, options.seconds, process))
    print(f"load average at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


async def _measure(base: str, key: str, rate: int, seconds: int, process: psutil.Process) -> None:
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=base, headers=headers, limits=_CONNECTIONS, timeout=30) as client:
        await _until_ready(client)
        body = await _request(client)
        replies = await asyncio.gather(*(_post(client, body, "same") for _ in range(PARALLEL_POSTS)))
        jobs = {reply.json()["id"] for reply in replies if reply.status_code == 202}
        statuses = sorted({reply.status_code for reply in replies})
        print(f"{PARALLEL_POSTS} parallel POSTs with one key: {len(jobs)} job, statuses {statuses}")
        path = f"/v1/jobs/{jobs.pop()}"
        before = sum(process.cpu_times()[:2])
        taken, errors = await _steadily(client.base_url.port or 80, key, path, rate, seconds)
        cpu = sum(process.cpu_times()[:2]) - before
    p50, p95, p99 = (1000 * taken[min(len(taken) - 1, int(part * len(taken)))] for part in (0.5, 0.95, 0.99))
    print(f"GET of a job, {rate}/s for {seconds} s: {len(taken)} answers, {errors} errors")
    print(f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, longest {1000 * taken[-1]:.0f} ms")
    print(f"the API used {1000 * cpu / len(taken):.1f} ms of a core for each")


async def _steadily(port: int, key: str, path: str, rate: int, seconds: int) -> tuple[list[float], int]:
    """Ask at a fixed rate; how long each answer took from the moment it was due, shortest first, and the errors.

    Over plain connections: a client that can more would need as much of the machine as the service.
    """
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    due: asyncio.Queue[float | None] = asyncio.Queue()
    answers: list[tuple[float, bool]] = []

    async def connection() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (moment := await due.get()) is not None:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
            answers.append((time.perf_counter() - moment, head.startswith(b"HTTP/1.1 200")))
        writer.close()

    connections = [asyncio.create_task(connection()) for _ in range(CONNECTIONS)]
    began = time.perf_counter()
    for number in range(rate * seconds):
        moment = began + number / rate
        await asyncio.sleep(max(0.0, moment - time.perf_counter()))
        due.put_nowait(moment)
    for _ in connections:
        due.put_nowait(None)
    await asyncio.gather(*connections)
    return sorted(taken for taken, _ in answers), sum(not good for _, good in answers)


async def _post(client: httpx.AsyncClient, body: dict[str, object], key: str) -> httpx.Response:
    """Ask for a job, again while another request of the same key is being answered."""
    while True:
        reply = await client.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
        if reply.status_code != 409:
            return reply
        await asyncio.sleep(0.2)


async def _request(client: httpx.AsyncClient) -> dict[str, object]:
    """The body of a request for a job, with a model and a dataset that are there."""
    ids = {}
    for kind, files in (("model", model_files()), ("dataset", dataset_files())):
        ids[kind] = (await client.post(f"/v1/{kind}s", json={"name": kind})).json()["id"]
        for name, content in files.items():
            await client.put(f"/v1/{kind}s/{ids[kind]}/files/{name}", content=content)
        (await client.post(f"/v1/{kind}s/{ids[kind]}/complete")).raise_for_status()
    return {"target_ratio": 0.5} | ids


async def _until_ready(client: httpx.AsyncClient) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        try:
            if (await client.get("/readyz")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.1)
    raise SystemExit("the API did not start")


@contextmanager
def _api(settings: Settings) -> Iterator[psutil.Process]:
    """The API in a process of its own, as docker-compose.yml starts it."""
    variables = {
        "PRUNERY_DATABASE_URL": settings.database_url,
        "PRUNERY_DATA_DIR": str(settings.data_dir),
        "PRUNERY_REQUESTS_PER_MINUTE": "0",  # one key asks for all
        "PATH": os.environ["PATH"],
    }
    command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:app_from_env"]
    command += ["--port", str(settings.port), "--no-server-header"]
    with (settings.data_dir / "api.log").open("wb") as log:
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _database(server: str) -> Iterator[str]:
    """URL of a new database with every table, dropped at the end."""
    name = sql.Identifier(f"prunery_load_{token_hex(6)}")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
        try:
            url = make_url(server).set(drivername="postgresql+psycopg", database=name.as_string().strip('"'))
            migrate(url.render_as_string(hide_password=False))
            yield url.render_as_string(hide_password=False)
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))


def _key(settings: Settings) -> str:
    database = Database(settings.database_url)
    try:
        with database.write() as session:
            return create_key(session, create_owner(session, "load").id, "load")[1]
    finally:
        database.dispose()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    main()
