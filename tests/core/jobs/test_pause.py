"""Pausing and resuming, on both databases: what each state makes of it, and that it costs a job nothing."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import update

from core.clock import now
from core.db import Database
from core.errors import Conflict, LeaseLost
from core.jobs import leases, repository
from core.jobs.attempts import Claim, JobError
from core.jobs.reconcile import reconcile
from core.jobs.states import RetryPolicy, Status
from core.jobs.tables import Job
from core.settings import Settings
from tests.support.ledger import make_job

Act = Callable[..., Job]


def submit(database: Database, **fields: object) -> Job:
    with database.write() as session:
        return make_job(session, **fields)


def claim(database: Database) -> Claim | None:
    with database.write() as session:
        return leases.claim(session, worker_id="w", queues=["cpu"], lease_seconds=60)


def running(database: Database) -> tuple[Job, Claim]:
    job = submit(database)
    taken = claim(database)
    assert taken is not None
    return job, taken


def do(database: Database, act: Act, job: Job) -> Job:
    with database.write() as session:
        return act(session, job.owner_id, job.id)


def row(database: Database, job: Job) -> Job:
    with database.read() as session:
        return repository.get(session, job.owner_id, job.id)


def statuses(database: Database, job: Job) -> list[str]:
    with database.read() as session:
        found = repository.events(session, job.owner_id, job.id, types=["status"])
    return [event.data["status"] for event in found]


def test_a_waiting_job_rests_until_it_is_resumed(database: Database) -> None:
    job = submit(database)
    for _ in range(2):
        assert do(database, repository.pause, job).status == Status.PAUSED
        assert claim(database) is None
    for _ in range(2):
        assert do(database, repository.resume, job).status == Status.QUEUED
    assert claim(database) is not None
    assert statuses(database, job) == ["queued", "paused", "queued", "running"]


def test_a_running_job_is_asked_to_rest_and_goes_on_as_the_next_attempt(database: Database) -> None:
    job, taken = running(database)
    assert do(database, repository.pause, job).status == Status.PAUSING
    with database.write() as session:
        renewal = leases.renew(session, taken.token, lease_seconds=60)
    assert (renewal.pause, renewal.cancel) == (True, False)
    with database.write() as session:
        assert leases.release(session, taken.token, "preempted") == Status.PAUSED
    rests = row(database, job)
    assert (rests.failures, rests.worker_id, rests.lease_until, rests.error) == (0, None, None, None)
    do(database, repository.resume, job)
    again = claim(database)
    assert again is not None
    assert list(again.previous_attempts) == [1]


def test_a_pause_may_be_taken_back_while_the_job_still_runs(database: Database) -> None:
    job, taken = running(database)
    do(database, repository.pause, job)
    assert do(database, repository.resume, job).status == Status.RUNNING
    with database.write() as session:
        assert not leases.renew(session, taken.token, lease_seconds=60).pause
    with database.write() as session:  # the worker had heard of the pause before
        assert leases.release(session, taken.token, "preempted") == Status.QUEUED


def test_a_finish_that_comes_before_the_rest_stands(database: Database) -> None:
    job, taken = running(database)
    do(database, repository.pause, job)
    with database.write() as session:
        leases.finish(session, taken.token, artifacts=[], report={})
    assert row(database, job).status == Status.SUCCEEDED


@pytest.mark.parametrize(
    ("error_class", "status", "failures"),
    [("user", Status.FAILED, 0), ("infrastructure", Status.PAUSED, 1), ("capacity", Status.PAUSED, 0)],
)
def test_an_attempt_that_fails_on_its_way_to_rest(
    database: Database, error_class: str, status: Status, failures: int
) -> None:
    """What another attempt may mend rests, and fails as it would have without the pause."""
    job, taken = running(database)
    do(database, repository.pause, job)
    error = JobError("x", error_class, "x")  # type: ignore[arg-type]
    with database.write() as session:
        assert leases.fail(session, taken.token, error, RetryPolicy()) == status
    assert (row(database, job).status, row(database, job).failures) == (status, failures)


def test_a_worker_lost_on_the_way_to_rest_leaves_a_job_that_rests(database: Database) -> None:
    job, taken = running(database)
    do(database, repository.pause, job)
    with database.write() as session:
        session.execute(update(Job).values(lease_until=now(session) - timedelta(seconds=1)))
    assert reconcile(database, Settings()).expired == 1
    assert row(database, job).status == Status.PAUSED
    with pytest.raises(LeaseLost), database.write() as session:
        leases.release(session, taken.token, "preempted")


def test_a_job_at_rest_is_canceled_at_once_and_one_on_its_way_by_its_worker(database: Database) -> None:
    job = submit(database)
    do(database, repository.pause, job)
    assert do(database, repository.cancel, job).status == Status.CANCELED
    job, taken = running(database)
    do(database, repository.pause, job)
    assert do(database, repository.cancel, job).status == Status.CANCELING
    for act in (repository.pause, repository.resume):
        with pytest.raises(Conflict, match="any more"):
            do(database, act, job)
    with database.write() as session:
        leases.confirm_cancel(session, taken.token)
    for act in (repository.pause, repository.resume):
        with pytest.raises(Conflict, match="canceled"):
            do(database, act, job)


def test_time_at_rest_is_no_time_in_the_queue(database: Database) -> None:
    """Neither for the order of claims nor for the limit on waiting."""
    job, other = submit(database), submit(database)
    with database.write() as session:
        session.execute(update(Job).where(Job.id == job.id).values(turn=Job.turn - 1000))
    do(database, repository.pause, job)
    do(database, repository.resume, job)
    assert row(database, job).turn > row(database, other).turn
    assert reconcile(database, Settings(queue_timeout_seconds=500.0)).timed_out == 0
