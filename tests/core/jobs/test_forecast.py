"""Where queued jobs stand and when they may begin, on both databases."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import event, insert, update

from core.clock import now
from core.db import Database
from core.jobs import forecast, leases, repository
from core.jobs.forecast import FAR, Forecaster, Outlook
from core.jobs.states import Status
from core.jobs.tables import Job
from core.workers.repository import WorkerRecord, beat
from core.workers.tables import Worker
from tests.support.ledger import make_job, make_owner


def outlooks(database: Database, *jobs: Job) -> list[Outlook]:
    with database.read() as session:
        fresh = [repository.get(session, job.owner_id, job.id) for job in jobs]
        found = Forecaster().outlooks(session, fresh)
    return [found[job.id] for job in jobs]


def positions(database: Database, *jobs: Job) -> list[int | None]:
    return [outlook.position for outlook in outlooks(database, *jobs)]


def copies(database: Database, job: Job, count: int, **changes: object) -> None:
    """More rows like a job's."""
    row = {name: getattr(job, name) for name in Job.__mapper__.column_attrs.keys()}  # noqa: SIM118
    rows = [row | changes | {"id": f"job_{number:026d}"} for number in range(count)]
    with database.write() as session:
        session.execute(insert(Job), rows)


def test_the_position_is_the_place_in_the_order_of_claims(database: Database) -> None:
    with database.write() as session:
        one, other = make_owner(session), make_owner(session)
        first, second, third = (make_job(session, one) for _ in range(3))
        turn = make_job(session, other)
        urgent = make_job(session, other, priority=1)
        make_job(session, queue="gpu")
    jobs = [first, second, third, turn, urgent]
    told = positions(database, *jobs)
    claimed = []
    while True:
        with database.write() as session:
            claim = leases.claim(session, worker_id="w", queues=["cpu"], lease_seconds=60)
        if claim is None:
            break
        claimed.append(claim.token.job_id)
    assert [claimed.index(job.id) + 1 for job in jobs] == told
    assert positions(database, first) == [None], "it runs"


def test_far_behind_ones_own_jobs_there_is_no_position(database: Database) -> None:
    with database.write() as session:
        job = make_job(session)
    copies(database, job, FAR - 1, turn=job.turn - 1)
    assert positions(database, job) == [FAR]
    with database.write() as session:
        last = make_job(session, job.owner_id)
    assert positions(database, last) == [None]


def test_a_job_that_nobody_can_run_says_what_it_waits_for(database: Database) -> None:
    with database.write() as session:
        plain = make_job(session, gpus=4)
        gpu = make_job(session, queue="gpu", gpus=1)
        large = make_job(session, queue="gpu-16g", gpus=2, gpu_memory_gib=24)
    jobs = (plain, gpu, large)
    needs = ["a worker", "a worker with a GPU", "a worker with 2 GPUs for each job of at least 24 GiB"]
    assert [outlook.waiting_for for outlook in outlooks(database, *jobs)] == needs
    with database.write() as session:
        beat(session, WorkerRecord("cpu", "cpu", 1, []))
        beat(session, WorkerRecord("gpu", "gpu", 2, ["0", "1"], 80.0))
    assert [outlook.waiting_for for outlook in outlooks(database, *jobs)] == [None, None, needs[2]]
    with database.write() as session:
        session.execute(update(Worker).values(heartbeat_at=now(session) - timedelta(minutes=2)))
    assert [outlook.waiting_for for outlook in outlooks(database, *jobs)] == needs, "stale ones do not count"


def test_the_start_is_told_by_how_long_the_last_jobs_took(database: Database) -> None:
    with database.write() as session:
        beat(session, WorkerRecord("w", "cpu", 2, []))
        jobs = [make_job(session) for _ in range(7)]
        at = now(session)
    (soon,) = outlooks(database, jobs[1])
    assert soon.starts_at is not None
    assert timedelta() <= soon.starts_at - at < timedelta(seconds=70), "a slot is free"
    assert outlooks(database, jobs[2])[0].starts_at is None, "nobody knows how long jobs take"
    ended = {"status": Status.SUCCEEDED, "finished_at": at - timedelta(hours=1), "spec": {"devices": 2}}
    copies(database, jobs[0], 3, device_seconds=1200.0, **ended)
    waits = [minutes(outlook, at) for outlook in outlooks(database, *jobs)]
    assert waits == pytest.approx([0, 0, 5, 10, 15, 20, 25], abs=1.1), "two slots, ten minutes each"


def minutes(outlook: Outlook, at: datetime) -> float:
    assert outlook.starts_at is not None
    assert outlook.starts_at.second == 0
    return (outlook.starts_at - at).total_seconds() / 60


def test_the_queues_are_read_once_for_many_questions(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.write() as session:
        first = make_job(session)
    sent: list[str] = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
    forecaster = Forecaster()
    with database.read() as session:
        forecaster.outlook(session, first)
        sent.clear()
        for _ in range(3):
            forecaster.outlook(session, first)
    assert len(sent) == 3, sent
    with database.write() as session:
        urgent = make_job(session, priority=1)
    with database.read() as session:
        assert forecaster.outlook(session, first).position == 1, "told from the look before"
        monkeypatch.setattr(forecast.time, "monotonic", lambda: float("inf"))
        assert forecaster.outlook(session, first).position == 2
        assert forecaster.outlook(session, urgent).position == 1
