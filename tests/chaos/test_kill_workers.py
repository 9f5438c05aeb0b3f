"""Workers killed with -9 while jobs run: no job is lost, none finishes twice, and every result is whole."""

import random
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from sqlalchemy import func, select

from app.doorbell import Doorbell
from core.artifacts.repository import list_artifacts
from core.jobs.states import TERMINAL, Status
from core.jobs.tables import Job
from tests.support.workers import Workplace, figure, terminate

STEPS, WORKERS = 10, 3
MOST_RECOMPUTED = 0.05
PATIENT = {"lease_seconds": 2.0, "heartbeat_seconds": 0.5, "max_failures": 100, "retry_backoff_seconds": 0.0}


@dataclass(frozen=True)
class Size:
    """How much is done; the kills are spread over the jobs, whatever the machine's speed."""

    jobs: int
    kills: int
    step_seconds: float
    limit_seconds: float


SMALL = Size(jobs=24, kills=10, step_seconds=0.15, limit_seconds=150)
LARGE = Size(jobs=500, kills=150, step_seconds=0.05, limit_seconds=3000)


@pytest.mark.parametrize("kind", ["sqlite and files", "postgresql and redis"])
def test_killed_workers_lose_nothing_and_finish_nothing_twice(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite and files":
        place = Workplace(tmp_path, request.getfixturevalue("sqlite_url"), **PATIENT)
    else:
        broker = request.getfixturevalue("redis_url")
        place = Workplace(tmp_path, request.getfixturevalue("postgres_url"), broker_url=broker, **PATIENT)
    survive(place, SMALL, kind)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_and_fifty_kills_among_five_hundred_jobs(
    tmp_path: Path, postgres_url: str, redis_url: str
) -> None:
    place = Workplace(tmp_path, postgres_url, broker_url=redis_url, **PATIENT)
    survive(place, LARGE, "postgresql and redis")


def survive(place: Workplace, size: Size, kind: str) -> None:
    """Run the jobs, kill workers meanwhile, and judge what came of it."""
    began = time.monotonic()
    names = {submit(place, size, number): f"job-{number}" for number in range(size.jobs)}
    doorbell = Doorbell(place.settings)
    doorbell.start()
    for _ in names:
        doorbell.ring("cpu")
    workers = [place.start_worker() for _ in range(WORKERS)]
    try:
        kills = kill_at_random(place, size, workers)
        assert terminated_in_order(workers)
    finally:
        doorbell.stop()
        for worker in workers:
            worker.kill()
            worker.wait()
    assert kills == size.kills
    assert_all_is_right(place, names)
    judge_and_report(place, names, f"{kind}: {size.jobs} jobs, {kills} kills", time.monotonic() - began)
    place.close()


def submit(place: Workplace, size: Size, number: int) -> str:
    return place.submit(f"job-{number}", steps=STEPS, step_seconds=size.step_seconds)


def kill_at_random(place: Workplace, size: Size, workers: list[subprocess.Popen[bytes]]) -> int:
    """Kill a random worker while jobs run, and start another, until all is done; returns the kills."""
    chance = random.Random(0)
    kills, deadline, next_kill = 0, time.monotonic() + size.limit_seconds, time.monotonic()
    while (left := unfinished(place)) > 0:
        assert time.monotonic() < deadline, [(job.id, job.status) for job in place.jobs()]
        time.sleep(0.1)
        due = kills < size.kills and (size.jobs - left) * size.kills >= 0.9 * kills * size.jobs
        if due and time.monotonic() > next_kill and children(workers):
            victim = chance.choice([worker for worker in workers if children([worker])] or workers)
            doomed = children([victim])
            victim.kill()
            victim.wait()
            assert gone(doomed), "a child outlived its worker by more than a second"
            workers[workers.index(victim)] = place.start_worker()
            kills += 1
            next_kill = time.monotonic() + chance.uniform(0.3, 1.5)
    return kills


def unfinished(place: Workplace) -> int:
    with place.database.read() as session:
        return session.scalars(select(func.count()).where(Job.status.not_in(TERMINAL))).one()


def children(workers: list[subprocess.Popen[bytes]]) -> list[psutil.Process]:
    found = []
    for worker in workers:
        try:
            found += psutil.Process(worker.pid).children()
        except psutil.NoSuchProcess:
            continue
    return found


def gone(processes: list[psutil.Process]) -> bool:
    _, left = psutil.wait_procs(processes, timeout=1)
    return not [process for process in left if works(process)]


def works(process: psutil.Process) -> bool:
    """Whether it is there and not merely waiting for somebody to take note of its end."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def terminated_in_order(workers: list[subprocess.Popen[bytes]]) -> bool:
    return [terminate(worker) for worker in workers] == [0] * len(workers)


def assert_all_is_right(place: Workplace, names: dict[str, str]) -> None:
    for job_id, name in names.items():
        job = place.job(job_id)
        assert job.status == Status.SUCCEEDED, (name, job.status, job.error)
        assert place.statuses(job_id).count("succeeded") == 1
        with place.database.read() as session:
            artifacts = list_artifacts(session, job)
        assert [artifact.name for artifact in artifacts] == [
            "model/config.json",
            "model/weights.bin",
            "report.json",
        ]
        assert {artifact.attempt for artifact in artifacts} == {job.attempt}
        with place.store.open(artifacts[1].sha256) as file:
            assert file.read() == place.weights(name, STEPS)
        assert set(place.steps(name)) == set(range(STEPS))


def judge_and_report(place: Workplace, names: dict[str, str], done: str, seconds: float) -> None:
    """Work that was done is not done again, but for the step that a kill fell into."""
    steps = [place.steps(name) for name in names.values()]
    again = sum(len(each) - len(set(each)) for each in steps)
    attempts = sum(place.job(job_id).attempt for job_id in names)
    share = again / (len(names) * STEPS)
    assert share <= MOST_RECOMPUTED
    figure(f"{done}, {attempts} attempts, {100 * share:.1f} % of steps recomputed, {seconds:.0f} s")
