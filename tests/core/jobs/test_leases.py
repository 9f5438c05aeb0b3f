"""The worker's side of a job, on both databases."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from core.artifacts.repository import ArtifactRecord, list_artifacts
from core.clock import now
from core.db import Database
from core.errors import LeaseLost
from core.jobs import changes, leases, repository
from core.jobs.attempts import Claim, JobError, Token
from core.jobs.events import NewEvent
from core.jobs.states import RetryPolicy, Status
from core.jobs.tables import Job, JobEvent
from tests.support.ledger import make_job, make_owner

POLICY = RetryPolicy(max_failures=3, backoff_seconds=10)
RESULT = ArtifactRecord("report.json", 2, "b" * 64, "application/json")
LOST = JobError("store_gone", "infrastructure", "The store is gone.")


def claim(
    database: Database, worker: str = "w1", lease_seconds: float = 60, queues: tuple[str, ...] = ("cpu",)
) -> Claim | None:
    with database.write() as session:
        return leases.claim(session, worker_id=worker, queues=queues, lease_seconds=lease_seconds)


def claimed(database: Database, **fields: object) -> tuple[Job, Token]:
    with database.write() as session:
        job = make_job(session, **fields)
    taken = claim(database)
    assert taken is not None
    return job, taken.token


def row(database: Database, job: Job) -> Job:
    with database.read() as session:
        return session.scalars(select(Job).where(Job.id == job.id)).one()


def event_types(database: Database, job: Job) -> list[str]:
    with database.read() as session:
        return list(
            session.scalars(select(JobEvent.type).where(JobEvent.job_id == job.id).order_by(JobEvent.seq))
        )


def test_claim_takes_the_lease_and_raises_the_attempt(database: Database) -> None:
    with database.write() as session:
        job = make_job(session, spec={"seed": 7})
    taken = claim(database)
    assert taken is not None
    assert (taken.token, taken.spec, list(taken.previous_attempts)) == (
        Token(job.id, 1, "w1"),
        {"seed": 7},
        [],
    )
    after = row(database, job)
    assert (after.status, after.attempt, after.worker_id) == (Status.RUNNING, 1, "w1")
    assert after.started_at is not None
    assert after.lease_until == after.started_at + timedelta(seconds=60)
    assert after.version > job.version
    assert claim(database) is None


def test_claims_are_distinct_when_many_workers_ask_at_once(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        expected = {make_job(session, owner).id for _ in range(20)}
    barrier = threading.Barrier(5)

    def work(worker: int) -> list[str]:
        barrier.wait()
        taken = []
        while True:
            found = claim(database, f"w{worker}")
            if found is None:
                return taken
            taken.append(found.token.job_id)

    with ThreadPoolExecutor(5) as pool:
        taken = [job_id for ids in pool.map(work, range(5)) for job_id in ids]
    # On PostgreSQL a worker may find nothing while another holds the last rows: the rest is claimed here.
    while found := claim(database):
        taken.append(found.token.job_id)
    assert Counter(taken) == Counter(expected)


def test_claim_order_is_priority_then_fairness_then_age(database: Database) -> None:
    with database.write() as session:
        busy, idle = make_owner(session), make_owner(session)
        first = make_job(session, busy)
        second = make_job(session, busy)
        third = make_job(session, idle)
        urgent = make_job(session, busy, priority=5)
    order = []
    while taken := claim(database):
        order.append(taken.token.job_id)
    assert order == [urgent.id, third.id, first.id, second.id]


def test_claim_keeps_to_its_queues_and_to_jobs_that_are_due(database: Database) -> None:
    with database.write() as session:
        make_job(session, queue="gpu")
        later = make_job(session)
        session.execute(
            update(Job).where(Job.id == later.id).values(next_attempt_at=now(session) + timedelta(hours=1))
        )
    assert claim(database) is None
    taken = claim(database, queues=("cpu", "gpu"))
    assert taken is not None
    assert row(database, later).status == Status.QUEUED


def test_renewal_extends_the_lease_and_writes_events(database: Database) -> None:
    job, token = claimed(database)
    before = row(database, job)
    news = [
        NewEvent("phase", {"phase": "pruning"}),
        NewEvent("progress", {"fraction": 0.1}),
        NewEvent("progress", {"fraction": 0.2}),
    ]
    with database.write() as session:
        renewal = leases.renew(
            session,
            token,
            lease_seconds=120,
            events=news,
            phase="pruning",
            progress=0.2,
            metrics={"loss": 0.5},
        )
    after = row(database, job)
    assert not renewal.cancel
    assert before.lease_until is not None
    assert after.lease_until is not None
    assert after.lease_until > before.lease_until + timedelta(seconds=50)
    assert (after.phase, after.progress, after.metrics) == ("pruning", 0.2, {"loss": 0.5})
    assert event_types(database, job) == ["status", "status", "phase", "progress"]


def test_progress_never_goes_back_and_is_kept_once_a_second(database: Database) -> None:
    job, token = claimed(database)
    for fraction in (0.5, 0.4, 7.0):
        with database.write() as session:
            leases.renew(
                session,
                token,
                lease_seconds=60,
                progress=fraction,
                events=[NewEvent("progress", {"fraction": fraction})],
            )
        assert row(database, job).progress == max(0.5, min(fraction, 1.0))
    assert event_types(database, job).count("progress") == 1


def test_too_many_events_are_thinned_out_progress_first(database: Database) -> None:
    job, token = claimed(database)
    with database.write() as session:
        at = now(session)
        leases.job_events.append(session, job.id, [NewEvent("progress", {"n": n}) for n in range(100)], at)
        leases.job_events.append(session, job.id, [NewEvent("metric", {"n": n}) for n in range(20)], at)
    with database.write() as session:
        leases.renew(
            session, token, lease_seconds=60, events=[NewEvent("warning", {"code": "x"})], events_per_job=80
        )
    counts = Counter(event_types(database, job))
    assert counts == {"status": 2, "progress": 50, "metric": 20, "warning": 1}
    with database.write() as session:
        leases.renew(
            session, token, lease_seconds=60, events=[NewEvent("warning", {"code": "y"})], events_per_job=20
        )
    with database.read() as session:
        kept = repository.events(session, job.owner_id, job.id, limit=1000)
    assert len(kept) == 20
    assert [event.seq for event in kept] == sorted({event.seq for event in kept})
    assert kept[-1].data == {"code": "y"}


def test_events_are_thinned_out_no_further_than_needed(database: Database) -> None:
    job, token = claimed(database)
    metrics = [NewEvent("metric", {"n": n}) for n in range(10)]
    with database.write() as session:
        leases.renew(session, token, lease_seconds=60, events=metrics, events_per_job=8)
    counts = Counter(event_types(database, job))
    assert counts == {"status": 2, "metric": 5}


def test_a_job_that_changed_meanwhile_is_not_changed_again(database: Database) -> None:
    job, token = claimed(database)
    with database.write() as session:
        stale = session.merge(job, load=False)  # as it was when it was queued
        assert not changes.change(session, stale, Status.CANCELED, now(session))
        assert stale.status == Status.RUNNING, "it is read again"
    assert event_types(database, job) == ["status", "status"]
    assert row(database, job).attempt == token.attempt


def test_numbers_that_json_cannot_hold_become_null(database: Database) -> None:
    job, token = claimed(database)
    with database.write() as session:
        event = NewEvent("metric", {"name": "loss", "value": float("nan")})
        leases.renew(session, token, lease_seconds=60, events=[event], metrics={"loss": [float("inf")]})
    assert row(database, job).metrics == {"loss": [None]}


def test_finish_publishes_all_or_nothing_and_may_be_repeated(database: Database) -> None:
    job, token = claimed(database)
    for _ in range(2):
        with database.write() as session:
            leases.finish(session, token, artifacts=[RESULT], report={"kind": "shrunk"})
    after = row(database, job)
    assert (after.status, after.progress, after.report) == (Status.SUCCEEDED, 1.0, {"kind": "shrunk"})
    assert after.lease_until is None
    assert after.finished_at is not None
    with database.read() as session:
        assert [artifact.name for artifact in list_artifacts(session, after)] == ["report.json"]


def test_a_stale_token_never_writes(database: Database) -> None:
    job, old = claimed(database)
    with database.write() as session:
        leases.release(session, old, "preempted")
    assert claim(database, "w2") is not None
    before = row(database, job)
    stale = [
        lambda session: leases.renew(session, old, lease_seconds=60),
        lambda session: leases.finish(session, old, artifacts=[RESULT], report={}),
        lambda session: leases.fail(session, old, LOST, POLICY),
        lambda session: leases.release(session, old, "preempted"),
        lambda session: leases.confirm_cancel(session, old),
    ]
    for write in stale:
        with pytest.raises(LeaseLost), database.write() as session:
            write(session)
    after = row(database, job)
    assert (after.version, after.attempt, after.worker_id) == (before.version, 2, "w2")


def test_release_requeues_at_once_without_counting_a_failure(database: Database) -> None:
    job, token = claimed(database)
    with database.write() as session:
        leases.release(session, token, "preempted")
    after = row(database, job)
    assert (after.status, after.failures, after.next_attempt_at) == (Status.QUEUED, 0, None)
    again = claim(database)
    assert again is not None
    assert list(again.previous_attempts) == [1]


@pytest.mark.parametrize("kind", ["user", "bug", "canceled"])
def test_errors_that_would_come_again_fail_at_once(database: Database, kind: str) -> None:
    job, token = claimed(database)
    with database.write() as session:
        error = JobError("bad", kind, "No good.", "/dataset")  # type: ignore[arg-type]
        assert leases.fail(session, token, error, POLICY) is Status.FAILED
    assert row(database, job).error == {
        "code": "bad",
        "class": kind,
        "message": "No good.",
        "param": "/dataset",
    }


def test_failing_machines_are_tried_again_with_a_growing_wait_until_the_limit(database: Database) -> None:
    job, token = claimed(database)
    for failures in (1, 2):
        with database.write() as session:
            assert leases.fail(session, token, LOST, POLICY) is Status.QUEUED
        after = row(database, job)
        assert after.failures == failures
        assert after.next_attempt_at is not None
        assert after.next_attempt_at - after.updated_at <= timedelta(seconds=10 * 2 ** (failures - 1))
        with database.write() as session:
            session.execute(update(Job).values(next_attempt_at=None))
        again = claim(database)
        assert again is not None
        token = again.token
    with database.write() as session:
        assert leases.fail(session, token, LOST, POLICY) is Status.FAILED
    assert (row(database, job).error or {})["code"] == "store_gone"
    assert event_types(database, job).count("attempt_lost") == 3


def test_too_little_memory_is_tried_once_more(database: Database) -> None:
    job, token = claimed(database)
    error = JobError("out_of_memory", "capacity", "Out of memory.")
    with database.write() as session:
        assert leases.fail(session, token, error, POLICY) is Status.QUEUED
    again = claim(database)
    assert again is not None
    assert again.capacity_retries == 1
    with database.write() as session:
        assert leases.fail(session, again.token, error, POLICY) is Status.FAILED
    assert row(database, job).failures == 0


def test_cancel_reaches_the_worker_and_ends_the_job(database: Database) -> None:
    job, token = claimed(database)
    with pytest.raises(LeaseLost), database.write() as session:
        leases.confirm_cancel(session, token)
    with database.write() as session:
        assert repository.cancel(session, job.owner_id, job.id).status == Status.CANCELING
    with database.write() as session:
        assert leases.renew(session, token, lease_seconds=60).cancel
    with database.write() as session:
        leases.confirm_cancel(session, token)
    assert row(database, job).status == Status.CANCELED


@pytest.mark.parametrize("end", ["release", "fail"])
def test_whatever_ends_the_attempt_of_a_job_being_canceled_cancels_it(database: Database, end: str) -> None:
    job, token = claimed(database)
    with database.write() as session:
        repository.cancel(session, job.owner_id, job.id)
    with database.write() as session:
        if end == "release":
            leases.release(session, token, "preempted")
        else:
            leases.fail(session, token, LOST, POLICY)
    assert row(database, job).status == Status.CANCELED


def test_a_finish_that_beats_the_cancel_wins(database: Database) -> None:
    job, token = claimed(database)
    with database.write() as session:
        repository.cancel(session, job.owner_id, job.id)
    with database.write() as session:
        leases.finish(session, token, artifacts=[RESULT], report={})
    assert row(database, job).status == Status.SUCCEEDED
