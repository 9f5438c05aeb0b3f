"""What is kept of the logs of a job's attempts, and how its owner reads the end of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.db import Database
from core.errors import NotFound
from core.jobs import logs, repository
from core.jobs.leases import claim, release
from core.jobs.logs import KEPT_ATTEMPTS, Tail, last_lines
from core.jobs.states import Status
from core.jobs.tables import Job
from tests.support.ledger import make_job


@pytest.fixture
def job(database: Database) -> Job:
    with database.write() as session:
        return make_job(session)


def attempt(database: Database, text: str) -> None:
    """One attempt that writes and is handed back."""
    with database.write() as session:
        claimed = claim(session, worker_id="w", queues=("cpu",), lease_seconds=60)
        assert claimed is not None
        token = claimed.token
        logs.write(session, token.job_id, token.attempt, Tail("half", 4))
        logs.write(session, token.job_id, token.attempt, Tail(text, len(text)))
        release(session, token, "preempted")


def read(database: Database, job: Job, number: int | None = None, limit: int = 100) -> logs.LogEnd:
    with database.read() as session:
        return logs.read(session, job.owner_id, job.id, attempt=number, limit=limit)


def test_nothing_is_there_before_the_first_attempt(database: Database, job: Job) -> None:
    assert read(database, job) == logs.LogEnd(0, "", 0)
    with pytest.raises(NotFound, match="no log of attempt 1"):
        read(database, job, 1)


def test_the_latest_attempt_is_read_or_any_that_is_kept(database: Database, job: Job) -> None:
    for number in range(1, KEPT_ATTEMPTS + 3):
        attempt(database, f"first {number}\nlast {number}\n")
    newest = KEPT_ATTEMPTS + 2
    assert read(database, job) == logs.LogEnd(newest, f"first {newest}\nlast {newest}\n", 15)
    assert read(database, job, 3, limit=8).text == "last 3\n"
    with pytest.raises(NotFound, match="attempt 2; its latest attempt is 7"):
        read(database, job, 2)


def test_another_owner_has_no_such_job(database: Database, job: Job) -> None:
    with database.read() as session, pytest.raises(NotFound):
        logs.read(session, "own_other", job.id, attempt=None, limit=10)


def test_the_log_goes_with_its_job(database: Database, job: Job) -> None:
    attempt(database, "one\n")
    with database.write() as session:
        assert repository.cancel(session, job.owner_id, job.id).status == Status.CANCELED
        repository.delete(session, job.owner_id, job.id)
    with database.read() as session:
        assert session.get(logs.JobLog, (job.id, 1)) is None


def test_the_end_begins_with_a_whole_line_where_one_fits() -> None:
    assert last_lines("one\ntwo\nthree\n", 10) == "two\nthree\n"
    assert last_lines("one\ntwo\nthree\n", 9) == "three\n"
    assert last_lines("one\ntwo\nthree\n", 3) == "ee\n"
    assert last_lines("é" * 10, 5) == "éé"


@given(st.text(max_size=200), st.integers(1, 250))
def test_the_end_is_an_end_within_the_limit(text: str, limit: int) -> None:
    end = last_lines(text, limit)
    assert text.endswith(end)
    assert len(end.encode()) <= limit
