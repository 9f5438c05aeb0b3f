"""A worker whose clock is an hour off, beside one whose clock is right; needs libfaketime (Debian's package)."""

import os
import time
from pathlib import Path

import pytest

from core.jobs.states import Status
from tests.support.workers import Workplace, figure

FOLDERS = [os.environ.get("PRUNERY_TEST_FAKETIME", ""), *map(str, Path("/usr/lib").glob("*/faketime"))]
JOBS, STEPS = 6, 8


@pytest.mark.slow
@pytest.mark.parametrize("shift", ["+1h", "-1h"])
def test_a_clock_that_is_an_hour_off_takes_no_job_from_anybody(
    shift: str, tmp_path: Path, postgres_url: str, redis_url: str
) -> None:
    library = next(
        (path for folder in FOLDERS if folder for path in Path(folder).glob("libfaketimeMT.so*")), None
    )
    if library is None:
        pytest.skip("no libfaketime")
    faked = {"LD_PRELOAD": str(library), "FAKETIME": shift, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    # Patient: on a busy machine a short lease may run out by itself, and an hour is longer than either.
    place = Workplace(tmp_path, postgres_url, broker_url=redis_url, lease_seconds=30.0, heartbeat_seconds=5.0)
    began = time.monotonic()
    with place.worker(tmp_path / "right.log"), place.worker(tmp_path / "wrong.log", **faked):
        ids = [place.submit(f"job-{number}", steps=STEPS, step_seconds=0.3) for number in range(JOBS)]
        jobs = [place.wait(job_id, seconds=120) for job_id in ids]
    for number, job in enumerate(jobs):
        assert (job.status, job.attempt) == (Status.SUCCEEDED, 1)
        assert place.steps(f"job-{number}") == list(range(STEPS))
    figure(f"clock {shift}: {JOBS} jobs, {JOBS} attempts, {time.monotonic() - began:.1f} s")
    place.close()
