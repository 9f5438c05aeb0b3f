"""Redis and PostgreSQL of the test's own, killed with -9 while jobs are posted and run: none lost, none done twice.

PRUNERY_TEST_OUTAGE_SECONDS makes the outages longer than the few seconds of a test.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex

import httpx
import pytest
from sqlalchemy import func, select

from core.accounts.repository import create_key, create_owner
from core.artifacts.tables import Artifact
from core.db import Database, migrate
from core.jobs.states import TERMINAL, Status
from core.jobs.tables import Job, JobEvent
from core.settings import Settings
from tests.support.killable import own_postgres, own_redis
from tests.support.measured import few_variables
from tests.support.s3_server import free_port
from tests.support.uploads import dataset_files, model_files
from tests.support.workers import ROOT, figure, until

OUTAGE_SECONDS = float(os.environ.get("PRUNERY_TEST_OUTAGE_SECONDS", "12"))
BETWEEN_POSTS, BEFORE, AFTER = 1.0, 6.0, 4.0
WORKERS = 2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@dataclass
class Posts:
    """What became of the requests for jobs: (seconds since the start, seconds taken, status; 0: none came)."""

    answers: list[tuple[float, float, int]] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)
    unexplained: list[int] = field(default_factory=list)

    def taken(self, begin: float, end: float) -> list[float]:
        """How long the answers of a time took, shortest first."""
        return sorted(taken for at, taken, _ in self.answers if begin <= at <= end)


@pytest.mark.parametrize("lost", ["redis", "postgresql"])
def test_an_outage_loses_no_job_and_doubles_none(lost: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        servers = {
            "postgresql": stack.enter_context(own_postgres()),
            "redis": stack.enter_context(own_redis()),
        }
        migrate(Settings(database_url=servers["postgresql"].url).database_url)
        settings = {
            "database_url": servers["postgresql"].url,
            "broker_url": servers["redis"].url,
            "data_dir": str(tmp_path / "data"),
            "port": str(free_port()),
            "lease_seconds": "10",
            "heartbeat_seconds": "3",
            "retry_backoff_seconds": "0",
            "max_failures": "100",
        }
        (tmp_path / "data").mkdir()
        database = Database(Settings(database_url=servers["postgresql"].url).database_url)
        stack.callback(database.dispose)
        worker = ["-m", "tests.support.slow_worker", "tests.support.steady_engine"]
        for _ in range(WORKERS):
            stack.enter_context(process(worker, settings, tmp_path))
        api = ["-m", "uvicorn", "--factory", "app.main:app_from_env", "--port", settings["port"]]
        stack.enter_context(process(api, settings, tmp_path))
        with asking(settings["port"], database) as client:
            posts, began = Posts(), time.monotonic()
            ended = threading.Event()
            poster = threading.Thread(target=post, args=(client, asked_for(client), posts, began, ended))
            poster.start()
            time.sleep(BEFORE)
            servers[lost].kill()
            down_at = time.monotonic() - began
            time.sleep(OUTAGE_SECONDS)
            servers[lost].start()
            up_at = time.monotonic() - began
            time.sleep(AFTER)
            ended.set()
            poster.join()
            drained = drain(database)
        judge(database, posts, lost)
        report(posts, lost, down_at, up_at, drained)


@contextmanager
def process(command: list[str], settings: dict[str, str], folder: Path) -> Iterator[None]:
    """A process of the service, killed at the end."""
    variables = {f"PRUNERY_{name.upper()}": value for name, value in settings.items()}
    with (folder / f"{token_hex(4)}.log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=few_variables() | variables, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        running.kill()
        running.wait()


@contextmanager
def asking(port: str, database: Database) -> Iterator[httpx.Client]:
    """A client with a key, once the API answers."""
    with database.write() as session:
        _, key = create_key(session, create_owner(session, "us").id, "test")
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
        until(lambda: is_ready(client), 60, lambda: "the API")
        yield client


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def asked_for(client: httpx.Client) -> dict[str, object]:
    """The body of a request for a job, with a model and a dataset that are there."""
    ids = {}
    for kind, files in (("model", model_files()), ("dataset", dataset_files())):
        ids[kind] = client.post(f"/v1/{kind}s", json={"name": kind}).json()["id"]
        for name, content in files.items():
            client.put(f"/v1/{kind}s/{ids[kind]}/files/{name}", content=content).raise_for_status()
        client.post(f"/v1/{kind}s/{ids[kind]}/complete").raise_for_status()
    return {"target_ratio": 0.5} | ids


def post(
    client: httpx.Client, body: dict[str, object], posts: Posts, began: float, ended: threading.Event
) -> None:
    """Ask for one job after the other, and for each as often as it takes, under a key of its own."""
    while not ended.wait(BETWEEN_POSTS):
        key = token_hex(8)
        while True:
            at = time.monotonic()
            reply = client.post("/v1/jobs", json=body, headers={"Idempotency-Key": key})
            posts.answers.append((at - began, time.monotonic() - at, reply.status_code))
            if reply.status_code == 202:
                posts.jobs.append(reply.json()["id"])
                break
            if reply.status_code not in (409, 503) or "retry-after" not in reply.headers:
                posts.unexplained.append(reply.status_code)
                break
            time.sleep(min(1.0, float(reply.headers["retry-after"])))


def drain(database: Database) -> float:
    """Seconds until every job is over."""
    began = time.monotonic()

    def left() -> int:
        with database.read() as session:
            return session.scalars(select(func.count()).where(Job.status.not_in(TERMINAL))).one()

    until(lambda: left() == 0, 180, lambda: f"{left()} jobs")
    return time.monotonic() - began


def judge(database: Database, posts: Posts, lost: str) -> None:
    """Every accepted job, and no other, succeeded once with one set of results."""
    assert posts.unexplained == []
    with database.read() as session:
        jobs = {job.id: job for job in session.scalars(select(Job))}
        assert sorted(jobs) == sorted(posts.jobs)
        for job_id, job in jobs.items():
            assert job.status == Status.SUCCEEDED, job.error
            events = session.scalars(
                select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.type == "status")
            )
            assert [event.data["status"] for event in events].count("succeeded") == 1
            artifacts = list(session.scalars(select(Artifact).where(Artifact.job_id == job_id)))
            assert len(artifacts) == 3
            assert {artifact.attempt for artifact in artifacts} == {job.attempt}
    statuses = {status for _, _, status in posts.answers}
    assert statuses == ({202} if lost == "redis" else {202, 503})


def report(posts: Posts, lost: str, down_at: float, up_at: float, drained: float) -> None:
    """Lines for the reader of `pytest -rP`."""
    before, meanwhile = posts.taken(0, down_at), posts.taken(down_at, up_at)
    p99 = meanwhile[min(len(meanwhile) - 1, int(0.99 * len(meanwhile)))]
    refused = sum(1 for _, _, status in posts.answers if status == 503)
    figure(f"{lost} killed with -9, {up_at - down_at:.0f} s away: {len(posts.jobs)} jobs, 0 lost, 0 double")
    figure(f"{len(meanwhile)} POSTs meanwhile: p99 {1000 * p99:.0f} ms, {refused} answered 503")
    figure(f"{len(before)} POSTs before: the longest {1000 * before[-1]:.0f} ms")
    figure(f"all jobs over {AFTER + drained:.1f} s after it was back")
    figure(f"load average {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores")
