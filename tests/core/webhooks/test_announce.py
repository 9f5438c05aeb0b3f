"""Messages are written in the transaction of the event that they tell of, to those who asked for them."""

import threading

from core.db import Database
from core.jobs import leases
from core.jobs import repository as jobs
from core.jobs.events import NewEvent
from core.jobs.leases import JobError
from core.jobs.states import RetryPolicy
from core.webhooks import repository
from core.webhooks.messages import EVENT_TYPES
from tests.support.ledger import make_job, make_owner
from tests.support.webhooks import deliveries, make_hook


def test_every_state_of_a_job_is_told_with_the_job_as_it_was(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        make_hook(session, owner)
        make_hook(session, make_owner(session))
        job = make_job(session, owner, metadata={"team": "search"})
    with database.write() as session:
        claimed = leases.claim(session, worker_id="w", queues=["cpu"], lease_seconds=60)
    assert claimed is not None
    with database.write() as session:
        events = [NewEvent("progress", {"fraction": 0.5}), NewEvent("phase", {"phase": "pruning"})]
        leases.renew(session, claimed.token, lease_seconds=60, events=events, progress=0.5)
    with database.write() as session:
        leases.finish(session, claimed.token, artifacts=[], report={"target_missed": True})
    with database.read() as session:
        told = deliveries(session)
    assert [each.type for each in told] == ["job.queued", "job.running", "job.succeeded"]
    assert [each.payload["type"] for each in told] == [each.type for each in told]
    assert [each.payload["data"]["job"]["status"] for each in told] == ["queued", "running", "succeeded"]
    assert [each.payload["data"]["event"]["seq"] for each in told] == [1, 2, 5]
    summary = told[-1].payload["data"]["job"]
    assert (summary["id"], summary["metadata"], summary["progress"]) == (job.id, {"team": "search"}, 1.0)
    assert (summary["target_missed"], summary["attempt"]) == (True, 1)
    assert summary["finished_at"] == told[-1].payload["timestamp"]


def test_only_what_was_subscribed_to_is_told(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        rare = make_hook(session, owner, ["job.failed", "job.attempt_lost"], "rare")
        every = make_hook(session, owner, EVENT_TYPES, "every")
        make_job(session, owner)
    with database.write() as session:
        claimed = leases.claim(session, worker_id="w", queues=["cpu"], lease_seconds=60)
        assert claimed is not None
        error = JobError("worker_lost", "infrastructure", "gone")
        leases.fail(session, claimed.token, error, RetryPolicy(max_failures=1))
    with database.read() as session:
        assert [each.type for each in deliveries(session, webhook_id=rare.id)] == [
            "job.attempt_lost",
            "job.failed",
        ]
        assert len(deliveries(session, webhook_id=every.id)) == 4
        failed = deliveries(session, type="job.failed")[0].payload["data"]["job"]
    assert failed["error"]["code"] == "worker_lost"


def test_what_was_rolled_back_is_told_to_nobody(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        make_hook(session, owner)
    with database.write() as session:
        make_job(session, owner)
        session.rollback()
    with database.read() as session:
        assert deliveries(session) == []


def test_a_job_that_is_deleted_leaves_what_was_told_of_it(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        make_hook(session, owner)
        job = make_job(session, owner)
        jobs.cancel(session, owner, job.id)
        jobs.delete(session, owner, job.id)
        assert [each.type for each in deliveries(session, job_id=job.id)] == ["job.queued", "job.canceled"]


def test_a_webhook_that_is_deleted_meanwhile_breaks_no_job(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        hook = make_hook(session, owner)
    made: list[str] = []

    def make() -> None:
        with database.write() as session:
            made.append(make_job(session, owner).id)

    thread = threading.Thread(target=make)
    with database.write() as session:
        repository.delete(session, owner, hook.id)
        session.flush()
        thread.start()
        thread.join(0.3)
        assert made == []
    thread.join()
    with database.read() as session:
        assert jobs.get(session, owner, made[0]).event_seq == 1
        assert deliveries(session) == []
