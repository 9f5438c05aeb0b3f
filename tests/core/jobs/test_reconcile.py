"""What the reconciler repairs, and that doing it twice at once changes nothing."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from core.clock import now
from core.db import Database
from core.errors import LeaseLost
from core.jobs import leases, repository
from core.jobs import reconcile as module
from core.jobs.attempts import Claim
from core.jobs.reconcile import Reconciled, reconcile
from core.jobs.states import Status
from core.jobs.tables import Job
from core.settings import Settings
from tests.support.ledger import make_job


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, max_failures=2, retry_backoff_seconds=0)


def age(database: Database, **ages: float) -> None:
    """Set columns of every job to that many seconds ago."""
    with database.write() as session:
        at = now(session)
        values = {name: at - timedelta(seconds=seconds) for name, seconds in ages.items()}
        session.execute(update(Job).values(**values))


def take(database: Database) -> Claim:
    with database.write() as session:
        claim = leases.claim(session, worker_id="w", queues=["cpu"], lease_seconds=60)
    assert claim is not None
    return claim


def row(database: Database, job: Job) -> Job:
    with database.read() as session:
        return repository.get(session, job.owner_id, job.id)


def test_a_lease_that_holds_is_left_alone(database: Database, settings: Settings) -> None:
    with database.write() as session:
        job = make_job(session)
    take(database)
    assert reconcile(database, settings) == Reconciled()
    assert row(database, job).status == Status.RUNNING


def test_a_job_that_was_claimed_meanwhile_has_not_waited_too_long(
    database: Database, settings: Settings
) -> None:
    with database.write() as session:
        job = make_job(session)
    age(database, created_at=1e6)
    take(database)
    assert not module._time_out(database, job.id, settings)
    assert row(database, job).status == Status.RUNNING


def test_a_lost_attempt_goes_back_to_the_queue_and_finally_fails(
    database: Database, settings: Settings
) -> None:
    with database.write() as session:
        job = make_job(session)
    first = take(database)
    age(database, lease_until=1)
    assert reconcile(database, settings).expired == 1
    assert (row(database, job).status, row(database, job).failures) == (Status.QUEUED, 1)
    with pytest.raises(LeaseLost), database.write() as session:
        leases.renew(session, first.token, lease_seconds=60)
    assert take(database).token.attempt == 2
    age(database, lease_until=1)
    assert reconcile(database, settings).expired == 1
    after = row(database, job)
    assert (after.status, after.failures, (after.error or {})["code"]) == (Status.FAILED, 2, "worker_lost")
    with database.read() as session:
        types = [event.type for event in repository.events(session, job.owner_id, job.id)]
    assert types.count("attempt_lost") == 2


def test_a_job_being_canceled_by_a_dead_worker_is_canceled(database: Database, settings: Settings) -> None:
    with database.write() as session:
        job = make_job(session)
    take(database)
    with database.write() as session:
        repository.cancel(session, job.owner_id, job.id)
    age(database, lease_until=1)
    assert reconcile(database, settings).expired == 1
    assert row(database, job).status == Status.CANCELED


def test_a_wait_that_is_too_long_fails_only_where_that_is_set(database: Database, settings: Settings) -> None:
    with database.write() as session:
        job = make_job(session)
    with database.write() as session:
        session.execute(update(Job).values(turn=Job.turn - 100))
    assert reconcile(database, settings).timed_out == 0
    assert reconcile(database, settings.model_copy(update={"queue_timeout_seconds": 200.0})).timed_out == 0
    assert reconcile(database, settings.model_copy(update={"queue_timeout_seconds": 50.0})).timed_out == 1
    assert (row(database, job).error or {})["code"] == "queue_timeout"


def test_queues_are_rung_for_due_jobs_that_were_not_heard(database: Database, settings: Settings) -> None:
    with database.write() as session:
        for queue in ("cpu", "cpu", "gpu"):
            make_job(session, queue=queue)
    assert reconcile(database, settings).ring == set()
    age(database, updated_at=2)
    assert reconcile(database, settings).ring == {"cpu", "gpu"}
    age(database, next_attempt_at=-100)
    assert reconcile(database, settings).ring == set()


def test_reconcilers_at_the_same_moment_count_a_failure_once(database: Database, settings: Settings) -> None:
    with database.write() as session:
        job = make_job(session)
    take(database)
    age(database, lease_until=1)
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: reconcile(database, settings).expired, range(4)))
    assert sum(done) == 1
    assert row(database, job).failures == 1
