"""How long a cancel takes, with a real worker process: for figures, so longer than the other tests."""

import os
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import pytest

from core.jobs import repository
from core.jobs.states import Status
from tests.support.workers import Workplace, figure, until

TIMES = 20


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_queued_job_is_canceled_at_once_and_a_running_one_within_seconds(place: Workplace) -> None:
    waiting = [place.submit(f"q{number}") for number in range(TIMES)]
    queued = [timed(partial(cancel, place, job_id)) for job_id in waiting]
    running = []
    with place.worker():
        for number in range(TIMES):
            job_id = place.submit(name := f"r{number}", steps=10_000, step_seconds=0.1)
            place.wait_for_step(name, 1)
            (group,) = place.child_pids(name)
            running.append(timed(partial(stop, place, job_id, group)))
    tell("queued", queued)
    tell("running, until the job is canceled and its process group gone", running)
    assert max(queued) <= 0.1
    assert max(running) <= 5


def cancel(place: Workplace, job_id: str) -> None:
    with place.database.write() as session:
        repository.cancel(session, place.owner_id, job_id)


def stop(place: Workplace, job_id: str, group: int) -> None:
    cancel(place, job_id)
    place.wait(job_id, Status.CANCELED)
    until(lambda: gone(group), 5, lambda: "the end of the process group")


def gone(group: int) -> bool:
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return False
    return True


def timed(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def tell(what: str, seconds: list[float]) -> None:
    """With twenty the 99th percentile is the longest."""
    figure(
        f"cancel, {what}: median {statistics.median(seconds):.3f} s, p99 {max(seconds):.3f} s of {len(seconds)}"
    )
