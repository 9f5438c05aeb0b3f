"""No owner waits more than twice its fair share: the claims of the ledger with a made-up clock, over days of work.

Three owners give in jobs of mixed lengths at once or one after the other; workers take them by the real statement. An
owner's fair share is a third of the workers for as long as it has work. Had it so many workers to itself, it would be
done after its fair time; here it may take twice that, and one job of each other owner, since nobody knows how long a
job will take and none is stopped for another. (So it is with packets: Goyal et al. 1996, Start-time Fair Queueing.)
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, update
from sqlalchemy.orm import Session

from core.accounts.tables import Owner
from core.db import Database
from core.jobs import shares
from core.jobs.fairness import lock_best, turn
from core.jobs.states import Status
from core.jobs.tables import Job
from tests.support.ledger import make_job, make_owner

OWNERS = 3
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Scenario:
    """What each owner gives in: the lengths of its jobs in seconds, and the moment of all of them."""

    workers: int
    lengths: list[list[float]]
    arrivals: list[float] = field(default_factory=lambda: [0.0] * OWNERS)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Owners differ in how many jobs they have and how long these take, by a factor of up to a thousand."""
    chance = random.Random(draw(st.integers(0, 2**32)))
    lengths = []
    for _ in range(OWNERS):
        typical, spread = chance.choice([5.0, 60.0, 600.0, 3600.0]), chance.choice([1.0, 1.5, 4.0])
        count = draw(st.integers(1, 14))
        lengths.append([typical * spread ** chance.uniform(-1, 1) for _ in range(count)])
    arrivals = [chance.choice([0.0, 0.0, 30.0, 1800.0]) for _ in range(OWNERS)]
    return Scenario(draw(st.integers(1, 5)), lengths, arrivals)


@pytest.fixture
def database(sqlite_url: str) -> Iterator[Database]:
    database = Database(sqlite_url)
    yield database
    database.dispose()


def simulate(session: Session, scenario: Scenario) -> list[float]:
    """When each owner's last job ended, in seconds after its arrival."""
    owners = [make_owner(session) for _ in range(OWNERS)]
    template = make_job(session, owners[0])
    row = {name: getattr(template, name) for name in Job.__mapper__.column_attrs.keys()}  # noqa: SIM118
    session.delete(template)
    lengths: dict[str, float] = {}
    pending = []
    for number, (owner, own) in enumerate(zip(owners, scenario.lengths, strict=True)):
        for index, seconds in enumerate(own):
            job_id = f"job_{owner[-12:]}_{index:04d}"
            lengths[job_id] = seconds
            at = BEGAN + timedelta(seconds=scenario.arrivals[number])
            pending.append(row | {"id": job_id, "owner_id": owner, "turn": turn(at, 0)})
    clock, free, running, ended = 0.0, scenario.workers, {}, dict.fromkeys(owners, 0.0)
    while pending or running or lengths:
        due = [job for job in pending if job["turn"] <= BEGAN.timestamp() + clock]
        if due:
            session.execute(insert(Job), due)
            pending = [job for job in pending if job not in due]
        at = BEGAN + timedelta(seconds=clock)
        while free and (job := lock_best(session, ["cpu"], at)):
            change(session, job.id, status=Status.RUNNING, charged_at=at)
            running[job.id] = clock + lengths.pop(job.id)
            free -= 1
        ends = list(running.values()) + [job["turn"] - BEGAN.timestamp() for job in pending]
        clock = min(ends)
        at = BEGAN + timedelta(seconds=clock)
        for job_id in [job_id for job_id, end in running.items() if end <= clock]:
            del running[job_id]
            job = session.get_one(Job, job_id, populate_existing=True)
            shares.charge(session, job, at)
            change(session, job_id, status=Status.SUCCEEDED, charged_at=None)
            ended[job.owner_id] = clock
            free += 1
    return [ended[owner] - scenario.arrivals[number] for number, owner in enumerate(owners)]


def change(session: Session, job_id: str, **values: object) -> None:
    session.execute(update(Job).where(Job.id == job_id).values(**values))


def fair_seconds(lengths: list[float], workers: int) -> float:
    """How long an owner's jobs take on a third of the workers; no less than its longest job."""
    return max(sum(lengths) * OWNERS / workers, max(lengths))


@settings(max_examples=10, suppress_health_check=list(HealthCheck))
@given(scenario=scenarios())
def test_no_owner_waits_more_than_twice_its_fair_share(database: Database, scenario: Scenario) -> None:
    is_fair(database, scenario)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(scenario=scenarios())
def test_nor_in_many_more_scenarios(database: Database, scenario: Scenario) -> None:
    is_fair(database, scenario)


def is_fair(database: Database, scenario: Scenario) -> None:
    with database.write() as session:
        took = simulate(session, scenario)
        session.execute(update(Job).values(status=Status.CANCELED))
        session.execute(update(Owner).values(recent_use=0.0))
    longest = [max(own) for own in scenario.lengths]
    for seconds, own in zip(took, scenario.lengths, strict=True):
        fair, others = fair_seconds(own, scenario.workers), sum(longest) - max(own)
        assert seconds <= 2 * fair + others, (seconds / fair, scenario)
