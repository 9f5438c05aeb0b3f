"""The order of claims, on both databases."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from core.accounts.tables import Owner
from core.clock import now
from core.db import Database
from core.jobs import leases, shares
from core.jobs.attempts import Claim
from core.jobs.fairness import POINT_SECONDS, lock_best
from core.jobs.reconcile import reconcile
from core.jobs.tables import Job
from core.settings import Settings
from tests.support.ledger import make_job, make_owner

GPUS = ("gpu", "gpu-16g", "cpu")


def claim(database: Database, **offer: object) -> Claim | None:
    with database.write() as session:
        fields = {"queues": ["cpu"]} | offer
        return leases.claim(session, worker_id="w", lease_seconds=60, **fields)  # type: ignore[arg-type]


def order(database: Database, **offer: object) -> list[str]:
    """The ids of all jobs as they are claimed."""
    found = []
    while taken := claim(database, **offer):
        found.append(taken.token.job_id)
    return found


def wait(database: Database, job: Job, minutes: float) -> None:
    """Let a job have waited for so long already."""
    with database.write() as session:
        earlier = Job.turn - 60 * minutes
        session.execute(update(Job).where(Job.id == job.id).values(turn=earlier))


def test_owners_take_turns_however_many_jobs_each_has(database: Database) -> None:
    with database.write() as session:
        many, few = make_owner(session), make_owner(session)
        of_many = [make_job(session, many).id for _ in range(4)]
        of_few = [make_job(session, few).id for _ in range(2)]
    assert order(database) == [of_many[0], of_few[0], of_many[1], of_few[1], of_many[2], of_many[3]]


def test_who_had_less_of_the_machines_goes_first(database: Database) -> None:
    with database.write() as session:
        at, busy, idle = now(session), make_owner(session), make_owner(session)
        for owner, seconds, hours in ((busy, 100.0, 0), (idle, 150.0, 1)):
            use = shares.added(0.0, seconds, at - timedelta(hours=hours))
            session.execute(update(Owner).where(Owner.id == owner).values(recent_use=use))
        first, second = make_job(session, busy).id, make_job(session, idle).id
    assert order(database) == [second, first], "an hour ago counts for half"


def test_running_jobs_are_charged_to_their_owner_and_to_themselves(database: Database) -> None:
    with database.write() as session:
        job = make_job(session, spec={"devices": 4})
    taken = claim(database)
    assert taken is not None
    with database.write() as session:
        began = now(session) - timedelta(seconds=100)
        session.execute(update(Job).values(charged_at=began))
    with database.write() as session:
        leases.renew(session, taken.token, lease_seconds=60)
    with database.write() as session:
        leases.renew(session, taken.token, lease_seconds=60)  # too soon to be counted
        at = session.get_one(Job, job.id).charged_at
        assert at is not None
        leases.finish(session, taken.token, artifacts=[], report={})
    with database.read() as session:
        ended, owner = session.get_one(Job, job.id), session.get_one(Owner, job.owner_id)
    assert ended.device_seconds == pytest.approx(400, abs=20)
    assert ended.charged_at is None
    hours = at.timestamp() / shares.HALF_LIFE_SECONDS
    assert 2 ** (owner.recent_use - hours) == pytest.approx(ended.device_seconds, rel=0.01)


def test_a_dead_worker_is_charged_until_its_lease_ran_out(database: Database) -> None:
    with database.write() as session:
        job = make_job(session)
    assert claim(database) is not None
    with database.write() as session:
        at = now(session)
        moments = {"charged_at": at - timedelta(days=2), "lease_until": at - timedelta(days=2, seconds=-60)}
        session.execute(update(Job).values(**moments))
    assert reconcile(database, Settings()).expired == 1
    with database.read() as session:
        assert session.get_one(Job, job.id).device_seconds == pytest.approx(60)


def test_use_is_added_up_and_halves_every_hour() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    use = shares.added(shares.added(0.0, 60.0, at), 0.0, at)
    use = shares.added(use, 30.0, at + timedelta(hours=1))
    hours = (at + timedelta(hours=3)).timestamp() / shares.HALF_LIFE_SECONDS
    assert 2 ** (use - hours) == pytest.approx(15.0)
    assert math.isfinite(shares.added(use, 1e9, at + timedelta(days=36_500)))


def test_a_higher_priority_goes_first_until_the_others_have_waited_for_it(database: Database) -> None:
    """Between owners and within one: a minute counts as much as a point."""
    with database.write() as session:
        urgent, patient = make_owner(session), make_owner(session)
        jobs = [make_job(session, urgent, priority=5) for _ in range(2)]
        fresh, old = make_job(session, patient), make_job(session, patient)
        mine = make_job(session, urgent)
    wait(database, old, 6)
    wait(database, mine, 6)
    # Both of those that waited are as far as the urgent ones, and so owners take turns.
    assert order(database) == [old.id, mine.id, jobs[0].id, jobs[1].id, fresh.id]


def test_no_priority_keeps_another_waiting_for_ever(database: Database) -> None:
    """An owner who always has a job of the highest priority waiting, against one job of the lowest."""
    with database.write() as session:
        lowest = make_job(session, priority=-100)
        greedy = make_owner(session)
    minutes = 0
    while True:
        with database.write() as session:
            make_job(session, greedy, priority=100)
            at = now(session) + timedelta(seconds=minutes * POINT_SECONDS)
            session.execute(update(Job).where(Job.owner_id == greedy).values(turn=at.timestamp() - 6000))
            job = lock_best(session, ["cpu"], at)
            assert job is not None
            if job.id == lowest.id:
                break
            session.execute(update(Job).where(Job.id == job.id).values(status="succeeded"))
        minutes += 40
        assert minutes <= 200
    assert minutes == 200


def test_a_worker_gets_what_it_can_run_only(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        plain = make_job(session, owner, gpus=1)
        wide = make_job(session, owner, gpus=4)
        gpu = make_job(session, owner, queue="gpu", gpus=1)
        large = make_job(session, owner, queue="gpu-16g", gpus=1, gpu_memory_gib=20)
        larger = make_job(session, owner, queue="gpu-16g", gpus=1, gpu_memory_gib=24)
    small = order(database, queues=GPUS, gpus=2, gpu_memory_gib=23.7)
    assert small == [plain.id, gpu.id, large.id]
    assert order(database, queues=["cpu"]) == [wide.id], "processes on cores are no GPUs"
    assert order(database, queues=GPUS, gpus=1, gpu_memory_gib=24.0) == [larger.id]


def test_claims_at_the_same_moment_get_jobs_of_one_line(postgres_url: str) -> None:
    """PostgreSQL: while one worker's claim is not committed, another finds the next job, not nothing."""
    database = Database(postgres_url)
    with database.write() as session:
        owner = make_owner(session)
        ids = [make_job(session, owner).id for _ in range(2)]
        other = make_job(session).id
    with database.write() as first, database.write() as second, database.write() as third:
        found = [lock_best(session, ["cpu"], now(session)) for session in (first, second, third)]
        assert [job.id for job in found if job] == [*ids, other]
    database.dispose()
