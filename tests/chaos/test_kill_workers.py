"""Workers killed with -9 while jobs run: no job is lost, none finishes twice, and every result is whole."""

import random
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from app.doorbell import Doorbell
from core.artifacts.repository import list_artifacts
from core.jobs.states import TERMINAL, Status
from tests.support.workers import Workplace, figure, terminate

JOBS, STEPS, WORKERS, KILLS = 24, 10, 3, 10
LIMIT_SECONDS = 150
PATIENT = {"lease_seconds": 2.0, "heartbeat_seconds": 0.5, "max_failures": 100, "retry_backoff_seconds": 0.0}


@pytest.mark.parametrize("kind", ["sqlite and files", "postgresql and redis"])
def test_killed_workers_lose_nothing_and_finish_nothing_twice(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite and files":
        place = Workplace(tmp_path, request.getfixturevalue("sqlite_url"), **PATIENT)
    else:
        broker = request.getfixturevalue("redis_url")
        place = Workplace(tmp_path, request.getfixturevalue("postgres_url"), broker_url=broker, **PATIENT)
    names = {submit(place, number): f"job-{number}" for number in range(JOBS)}
    doorbell = Doorbell(place.settings)
    doorbell.start()
    for _ in names:
        doorbell.ring("cpu")
    workers = [place.start_worker() for _ in range(WORKERS)]
    try:
        kills = kill_at_random(place, workers)
        assert terminated_in_order(workers)
    finally:
        doorbell.stop()
        for worker in workers:
            worker.kill()
            worker.wait()
    assert kills == KILLS
    assert_all_is_right(place, names)
    report(place, names, kind, kills)
    place.close()


def submit(place: Workplace, number: int) -> str:
    return place.submit(f"job-{number}", steps=STEPS, step_seconds=0.15)


def kill_at_random(place: Workplace, workers: list[subprocess.Popen[bytes]]) -> int:
    """Kill a random worker while jobs run, and start another, until all is done; returns the kills."""
    chance = random.Random(0)
    kills, deadline, next_kill = 0, time.monotonic() + LIMIT_SECONDS, time.monotonic()
    while any(job.status not in TERMINAL for job in place.jobs()):
        assert time.monotonic() < deadline, [(job.id, job.status) for job in place.jobs()]
        time.sleep(0.1)
        if kills < KILLS and time.monotonic() > next_kill and children(workers):
            victim = chance.choice([worker for worker in workers if children([worker])] or workers)
            doomed = children([victim])
            victim.kill()
            victim.wait()
            assert gone(doomed), "a child outlived its worker by more than a second"
            workers[workers.index(victim)] = place.start_worker()
            kills += 1
            next_kill = time.monotonic() + chance.uniform(0.3, 1.5)
    return kills


def children(workers: list[subprocess.Popen[bytes]]) -> list[psutil.Process]:
    found = []
    for worker in workers:
        try:
            found += psutil.Process(worker.pid).children()
        except psutil.NoSuchProcess:
            continue
    return found


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=1)
    return not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


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


def report(place: Workplace, names: dict[str, str], kind: str, kills: int) -> None:
    """One line for the reader of `pytest -rP`: the share of steps that were done more than once."""
    done = [place.steps(name) for name in names.values()]
    again = sum(len(steps) - len(set(steps)) for steps in done)
    attempts = sum(place.job(job_id).attempt for job_id in names)
    share = 100 * again / (JOBS * STEPS)
    figure(f"{kind}: {JOBS} jobs, {kills} kills, {attempts} attempts, {share:.1f} % of steps recomputed")
