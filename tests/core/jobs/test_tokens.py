"""What a claim holds, what each end of an attempt leaves in row and events, and who a lost lease names."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from core.clock import now
from core.db import Database
from core.errors import LeaseLost
from core.jobs import leases, repository
from core.jobs.attempts import Claim, JobError, Token
from core.jobs.states import RetryPolicy, Status
from core.jobs.tables import Job, JobEvent
from tests.support.ledger import make_job, make_model

LOST = JobError("store_gone", "infrastructure", "The store is gone.", "/x")


def take(database: Database, **worker: Any) -> Claim | None:
    values: dict[str, Any] = {"worker_id": "w1", "queues": ("cpu", "gpu"), "lease_seconds": 60} | worker
    with database.write() as session:
        return leases.claim(session, **values)


def running(database: Database, **fields: Any) -> tuple[Job, Token]:
    with database.write() as session:
        job = make_job(session, **fields)
    taken = take(database)
    assert taken is not None
    return job, taken.token


def row(database: Database, job: Job) -> Job:
    with database.read() as session:
        return session.scalars(select(Job).where(Job.id == job.id)).one()


def told(database: Database, job: Job, kind: str) -> list[dict[str, Any]]:
    """The data of a job's events of one type."""
    query = select(JobEvent.data).where(JobEvent.job_id == job.id, JobEvent.type == kind)
    with database.read() as session:
        return list(session.scalars(query.order_by(JobEvent.seq)))


def test_a_claim_holds_all_that_a_worker_needs(database: Database) -> None:
    with database.write() as session:
        job = make_job(
            session, spec={"seed": 1}, plan={"cost": 2}, run_timeout_seconds=7.0, traceparent="00-a"
        )
        teacher = make_job(session, job.owner_id, teacher_id=make_model(session, job.owner_id), priority=-5)
    first, second = take(database), take(database, worker_id="w2")
    assert first == Claim(
        token=Token(job.id, 1, "w1"),
        owner_id=job.owner_id,
        spec={"seed": 1},
        plan={"cost": 2},
        model_id=job.model_id,
        model_job_id=None,
        teacher_id=None,
        teacher_job_id=None,
        dataset_id=job.dataset_id,
        run_timeout_seconds=7.0,
        capacity_retries=0,
        traceparent="00-a",
    )
    assert second is not None
    assert (second.token, second.teacher_id) == (Token(teacher.id, 1, "w2"), teacher.teacher_id)


def test_the_result_of_a_job_is_claimed_by_its_name(database: Database) -> None:
    done, token = running(database)
    with database.write() as session:
        leases.finish(session, token, artifacts=[], report={})
        make_job(session, done.owner_id, model_job_id=done.id, teacher_job_id=done.id)
    taken = take(database)
    assert taken is not None
    assert (taken.model_id, taken.model_job_id, taken.teacher_job_id) == (None, done.id, done.id)


@pytest.mark.parametrize(
    ("needs", "worker", "fits"),
    [
        ({"gpus": 2}, {"gpus": 1}, False),
        ({"gpus": 2}, {"gpus": 2}, True),
        ({"gpus": 1, "gpu_memory_gib": 24}, {"gpus": 1, "gpu_memory_gib": 23.9}, False),
        ({"gpus": 1, "gpu_memory_gib": 24}, {"gpus": 1, "gpu_memory_gib": 24.0}, True),
        ({"gpus": 1, "gpu_memory_gib": 1}, {"gpus": 1}, False),
    ],
)
def test_a_worker_gets_no_job_that_wants_more_than_it_has(
    database: Database, needs: dict[str, int], worker: dict[str, float], fits: bool
) -> None:
    with database.write() as session:
        make_job(session, queue="gpu", **needs)
    assert (take(database, **worker) is not None) == fits


def test_the_first_start_is_kept_and_the_wait_forgotten(database: Database) -> None:
    job, token = running(database)
    started = row(database, job).started_at
    with database.write() as session:
        leases.release(session, token, "preempted")
        session.execute(update(Job).values(next_attempt_at=now(session) - timedelta(seconds=1)))
    assert take(database) is not None
    after = row(database, job)
    assert (after.started_at, after.next_attempt_at, after.attempt) == (started, None, 2)
    assert after.charged_at == after.updated_at


def test_a_renewal_without_news_keeps_what_is_known(database: Database) -> None:
    job, token = running(database)
    with database.write() as session:
        leases.renew(
            session, token, lease_seconds=60, phase="pruning", progress=0.4, metrics={"a": 1, "b": 1}
        )
    with database.write() as session:
        renewal = leases.renew(session, token, lease_seconds=60, metrics={"b": 2})
    after = row(database, job)
    assert (after.phase, after.progress, after.metrics) == ("pruning", 0.4, {"a": 1, "b": 2})
    assert (renewal.cancel, renewal.pause) == (False, False)
    assert after.lease_until == after.updated_at + timedelta(seconds=60)


def test_a_renewal_charges_the_time_since_the_last_charge_when_it_is_due(database: Database) -> None:
    job, token = running(database)
    charged = row(database, job).charged_at
    with database.write() as session:
        leases.renew(session, token, lease_seconds=60)
    after = row(database, job)
    assert (after.charged_at, after.device_seconds) == (charged, 0)
    with database.write() as session:
        session.execute(update(Job).values(charged_at=now(session) - timedelta(hours=1)))
        leases.renew(session, token, lease_seconds=60)
    after = row(database, job)
    assert after.charged_at == after.updated_at
    assert after.device_seconds == pytest.approx(3600, abs=60)


def test_ten_thousand_events_are_kept_without_a_limit_of_ones_own(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[int] = []
    monkeypatch.setattr(leases.job_events, "enforce_limit", lambda session, job_id, most: limits.append(most))
    job, token = running(database)
    with database.write() as session:
        session.execute(update(Job).where(Job.id == job.id).values(event_seq=9_999))
    for kind in ("metric", "metric"):
        with database.write() as session:
            leases.renew(session, token, lease_seconds=60, events=[leases.NewEvent(kind, {})])
    assert limits == [10_000]


def test_a_lost_attempt_is_told_and_waits(database: Database) -> None:
    job, token = running(database)
    with database.write() as session:
        leases.fail(session, token, LOST, RetryPolicy(3, 1000))
    assert told(database, job, "attempt_lost") == [
        {"attempt": 1, "code": "store_gone", "message": "The store is gone."}
    ]
    assert told(database, job, "status")[-1] == {"status": "queued", "attempt": 1, "reason": "store_gone"}
    after = row(database, job)
    assert (after.worker_id, after.lease_until, after.error, after.failures) == (None, None, None, 1)
    assert after.next_attempt_at is not None
    assert after.updated_at <= after.next_attempt_at <= after.updated_at + timedelta(seconds=1000)


def test_the_last_failure_is_counted_with_its_error(database: Database) -> None:
    job, token = running(database)
    with database.write() as session:
        assert leases.fail(session, token, LOST, RetryPolicy(1)) is Status.FAILED
    after = row(database, job)
    assert (after.failures, after.error, after.next_attempt_at) == (1, LOST.as_json(), None)
    assert after.worker_id == "w1", "the failed attempt had a worker"


def test_a_released_job_says_why_and_a_paused_one_does_not(database: Database) -> None:
    job, token = running(database)
    with database.write() as session:
        assert leases.release(session, token, "preempted") is Status.QUEUED
    assert told(database, job, "status")[-1] == {"status": "queued", "attempt": 1, "reason": "preempted"}
    assert row(database, job).worker_id is None
    again = take(database)
    assert again is not None
    with database.write() as session:
        repository.pause(session, job.owner_id, job.id)
        assert leases.release(session, again.token, "preempted") is Status.PAUSED
    assert told(database, job, "status")[-1] == {"status": "paused", "attempt": 2}


@pytest.mark.parametrize("changed", [{"job_id": "job_x"}, {"attempt": 2}, {"worker_id": "w2"}])
def test_every_part_of_a_token_must_fit(database: Database, changed: dict[str, Any]) -> None:
    job, token = running(database)
    parts = {"job_id": token.job_id, "attempt": token.attempt, "worker_id": token.worker_id}
    other = Token(**parts | changed)
    with pytest.raises(LeaseLost) as lost, database.write() as session:
        leases.renew(session, other, lease_seconds=60)
    assert (
        lost.value.message == f"Attempt {other.attempt} of {other.job_id} is no longer {other.worker_id}'s."
    )
    with database.write() as session:
        leases.finish(session, token, artifacts=[], report={})
    with pytest.raises(LeaseLost), database.write() as session:
        leases.finish(session, other, artifacts=[], report={})
    assert row(database, job).error is None


def test_a_cancel_that_nobody_asked_for_is_not_confirmed(database: Database) -> None:
    job, token = running(database)
    with pytest.raises(LeaseLost) as lost, database.write() as session:
        leases.confirm_cancel(session, token)
    assert lost.value.message == f"Nobody asked to cancel {job.id}."
    with pytest.raises(LeaseLost), database.write() as session:
        leases.fail(session, Token(job.id, 1, "w2"), LOST, RetryPolicy())
    with database.write() as session:
        failed = leases.fail(session, token, JobError("odd", "canceled", "Odd."), RetryPolicy())
    assert failed is Status.FAILED, "nobody asked to cancel it"
