"""Limits hold for claims and for requests at the same moment; device time is counted by day, once."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from core.accounts import device_time
from core.accounts.quotas import Quotas, check_new_job, check_room, check_stored, set_limits, usage
from core.accounts.repository import get_owner
from core.accounts.tables import DeviceUse
from core.clock import now
from core.db import Database
from core.errors import NotFound, QuotaExceeded
from core.jobs import leases, repository, shares
from core.jobs.attempts import Claim
from core.jobs.tables import Job
from tests.support.ledger import FILE, make_job, make_model, make_owner

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def claim(database: Database, quotas: Quotas) -> Claim | None:
    with database.write() as session:
        return leases.claim(session, worker_id="w", queues=["cpu"], lease_seconds=60, quotas=quotas)


def test_an_owner_with_enough_running_jobs_waits_and_others_go_on(database: Database) -> None:
    with database.write() as session:
        one, other = make_owner(session), make_owner(session)
        mine = [make_job(session, one, priority=5).id for _ in range(3)]
        theirs = make_job(session, other).id
    claims = [claim(database, Quotas(running_jobs=1)) for _ in range(3)]
    assert [each.token.job_id if each else None for each in claims] == [mine[0], theirs, None]
    with database.write() as session:
        set_limits(get_owner(session, one), {"running_jobs": 2})
    second = claim(database, Quotas(running_jobs=1))
    assert second is not None
    assert second.token.job_id == mine[1]
    assert claim(database, Quotas(running_jobs=1)) is None
    with database.write() as session:
        leases.release(session, second.token, "test")
    assert claim(database, Quotas()) is not None


def test_without_limits_there_is_room_for_more(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        make_job(session, owner)
        no_limit = Quotas()
        check_new_job(session, owner, no_limit)
        check_room(session, owner, no_limit)
        with pytest.raises(QuotaExceeded):
            check_room(session, owner, Quotas(stored_bytes=FILE.bytes))
        check_room(session, "own_nobody", Quotas(stored_bytes=0))  # what follows finds that nobody is there


def test_an_owner_whose_device_time_is_used_up_waits_for_the_next_day(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        make_job(session, owner)
        today = now(session).date()
        session.add(DeviceUse(owner_id=owner, day=today, seconds=10))
    assert claim(database, Quotas(device_seconds=10)) is None
    with database.write() as session:
        session.execute(update(DeviceUse).values(day=today - timedelta(days=1)))
    assert claim(database, Quotas(device_seconds=10)) is not None


def test_claims_at_the_same_moment_do_not_pass_the_limit(postgres_url: str) -> None:
    database = Database(postgres_url)
    with database.write() as session:
        owner = make_owner(session)
        for _ in range(4):
            make_job(session, owner)
    with database.write() as first, database.write() as second:
        quotas = Quotas(running_jobs=1)
        one, two = (
            leases.claim(session, worker_id="w", queues=["cpu"], lease_seconds=60, quotas=quotas)
            for session in (first, second)
        )
    assert one is not None
    assert two is None
    database.dispose()


def test_requests_at_the_same_moment_do_not_pass_the_limit(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        model = make_model(session, owner)
    refused = []

    def create() -> None:
        try:
            with database.write() as session:
                check_new_job(session, owner, Quotas(queued_jobs=2))
                make_job(session, owner, model_id=model)
        except QuotaExceeded as error:
            refused.append((error.quota, error.limit, error.used))

    threads = [threading.Thread(target=create) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == [("queued_jobs", 2, 2)] * 3
    with database.read() as session:
        assert usage(session, owner).queued_jobs == 2


def test_bytes_are_those_of_models_datasets_and_results(database: Database) -> None:
    with database.write() as session:
        job = make_job(session)
        make_job(session)
    held = claim(database, Quotas())
    assert held is not None
    record = leases.ArtifactRecord("report.json", 7, "b" * 64, "application/json")
    with database.write() as session:
        leases.finish(session, held.token, artifacts=[record], report={})
    with database.write() as session:
        assert usage(session, job.owner_id).stored_bytes == FILE.bytes + 7
        check_stored(session, job.owner_id, Quotas(stored_bytes=17))
        with pytest.raises(QuotaExceeded) as refused:
            check_stored(session, job.owner_id, Quotas(stored_bytes=16))
        assert refused.value.used == 17
        with pytest.raises(NotFound):
            check_new_job(session, "own_none", Quotas())
        repository.delete(session, job.owner_id, job.id)
        assert usage(session, job.owner_id).stored_bytes == FILE.bytes


def test_device_time_is_split_at_midnight_and_stays_when_the_job_goes(database: Database) -> None:
    midnight = device_time.next_day(NOON)
    with database.write() as session:
        job = make_job(session, spec={"devices": 2})
        job.charged_at, job.lease_until = midnight - timedelta(hours=1), midnight + timedelta(hours=2)
        # The lease ended two hours into the day: what is charged ends there, however late it is noticed.
        shares.charge(session, job, midnight + timedelta(days=3))
        job.charged_at = midnight
        shares.charge(session, job, midnight + timedelta(minutes=30))
        job.charged_at = job.lease_until = None
        repository.cancel(session, job.owner_id, job.id)
        repository.delete(session, job.owner_id, job.id)
    with database.read() as session:
        days = session.execute(select(DeviceUse.day, DeviceUse.seconds).order_by(DeviceUse.day)).all()
    assert days == [(NOON.date(), 2 * 3600.0), (midnight.date(), 2 * 7200.0 + 2 * 1800.0)]


def test_every_end_of_an_attempt_counts_its_time(database: Database) -> None:
    with database.write() as session:
        owner = make_job(session).owner_id
    for end in ("release", "finish"):
        held = claim(database, Quotas())
        assert held is not None
        with database.write() as session:
            begin = now(session) - timedelta(seconds=30)
            session.execute(update(Job).values(charged_at=begin))
            if begin.date() == now(session).date():
                assert device_time.used_today(session, owner, now(session)) >= 30
            if end == "release":
                leases.release(session, held.token, "test")
            else:
                leases.finish(session, held.token, artifacts=[], report={})
    with database.read() as session:
        assert 60 <= session.scalars(select(func.sum(DeviceUse.seconds))).one() < 90
