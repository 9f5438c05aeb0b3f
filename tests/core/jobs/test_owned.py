"""An owner's jobs in full: what a new one holds, what refusals say, what goes and what is read."""

from typing import Any

import pytest
from sqlalchemy import select

from core.artifacts.tables import Artifact
from core.assets import repository as assets
from core.clock import now
from core.db import Database
from core.errors import Conflict, InvalidRequest, NotFound, NotReady
from core.jobs import idempotency, leases, logs, repository
from core.jobs.events import NewEvent
from core.jobs.fairness import turn
from core.jobs.idempotency import Request
from core.jobs.logs import Tail
from core.jobs.states import Status
from core.jobs.tables import IdempotencyKey, JobEvent, JobLog
from tests.core.jobs.test_repository import succeed
from tests.support.ledger import make_dataset, make_job, make_model, make_owner


def test_a_new_job_holds_what_it_was_made_of(database: Database) -> None:
    fields = {
        "request": {"a": 1},
        "spec": {"b": 2},
        "plan": {"c": 3},
        "queue": "gpu",
        "gpus": 2,
        "gpu_memory_gib": 24,
        "priority": 4,
        "metadata": {"team": "x"},
        "run_timeout_seconds": 9.0,
        "traceparent": "00-a",
    }
    with database.write() as session:
        owner = make_owner(session)
        model, teacher, dataset = (
            make_model(session, owner),
            make_model(session, owner),
            make_dataset(session, owner),
        )
        made = make_job(session, owner, model_id=model, teacher_id=teacher, dataset_id=dataset, **fields)
    with database.read() as session:
        job = repository.get(session, owner, made.id)
    shown = {name: getattr(job, "metadata_" if name == "metadata" else name) for name in fields}
    assert shown == fields
    assert (job.owner_id, job.model_id, job.teacher_id, job.dataset_id) == (owner, model, teacher, dataset)
    assert (job.model_job_id, job.teacher_job_id, job.status) == (None, None, Status.QUEUED)
    assert job.created_at == job.updated_at
    assert job.turn == turn(job.created_at, 4)


def test_jobs_that_are_no_model_say_why(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        waiting, canceled = make_job(session, owner), make_job(session, owner)
        repository.cancel(session, owner, canceled.id)
    for role, pointer in (("model_job_id", "/model/job"), ("teacher_job_id", "/teacher/job")):
        with pytest.raises(NotReady) as unready, database.write() as session:
            make_job(session, owner, **{role: waiting.id})
        assert unready.value.message == f"{waiting.id} is queued; its model is not there yet."
        assert unready.value.param == pointer
        with pytest.raises(InvalidRequest) as refused, database.write() as session:
            make_job(session, owner, **{role: canceled.id})
        assert refused.value.message == f"{canceled.id} canceled; it has no model."
        assert (refused.value.code, refused.value.param) == ("no_model", pointer)
        with pytest.raises(NotFound, match=r"^There is no job job_x\.$"), database.write() as session:
            make_job(session, owner, **{role: "job_x"})
    with database.write() as session:
        half = assets.create_dataset(session, owner_id=owner, name="half").id
    with pytest.raises(InvalidRequest) as refused, database.write() as session:
        make_job(session, owner, dataset_id=half)
    assert refused.value.param == "/dataset"


def test_the_wish_to_cancel_is_dated(database: Database) -> None:
    with database.write() as session:
        job = make_job(session)
        canceled = repository.cancel(session, job.owner_id, job.id)
        assert canceled.cancel_requested_at == canceled.updated_at == canceled.finished_at


def test_what_cannot_be_done_any_more_says_so(database: Database) -> None:
    with database.write() as session:
        job = make_job(session)
        owner = job.owner_id
    with pytest.raises(Conflict) as refused, database.write() as session:
        repository.delete(session, owner, job.id)
    assert (refused.value.code, refused.value.message) == (
        "not_terminal",
        f"{job.id} is queued; cancel it first.",
    )
    succeed(database)
    for act, name in ((repository.pause, "pause"), (repository.resume, "resume")):
        with pytest.raises(Conflict) as refused, database.write() as session:
            act(session, owner, job.id)
        assert refused.value.code == "too_late"
        assert refused.value.message == f"{job.id} is succeeded; it cannot {name} any more."
    with database.write() as session:
        users = [make_job(session, owner, model_job_id=job.id).id for _ in range(2)]
    with pytest.raises(Conflict) as refused, database.write() as session:
        repository.delete(session, owner, job.id)
    assert refused.value.code == "in_use"
    assert refused.value.message in {
        f"The result of {job.id} is used by {user}, which is not over yet." for user in users
    }


def test_a_job_goes_with_all_that_is_its_own_and_nothing_else(database: Database) -> None:
    with database.write() as session:
        gone, stays = make_job(session, priority=1), make_job(session)
    for job in (gone, stays):
        succeed(database)
        with database.write() as session:
            logs.write(session, job.id, 1, Tail("words", 5))
            asked = Request(job.owner_id, "key", "POST", "/v1/jobs", "f" * 64)
            idempotency.begin(session, asked, hours=1)
            idempotency.complete(session, asked, status=202, response={}, job_id=job.id)
    with database.write() as session:
        make_job(session, gone.owner_id)  # active, and no user of it
        repository.delete(session, gone.owner_id, gone.id)
    with database.read() as session:
        for table in (JobEvent, JobLog, Artifact, IdempotencyKey):
            left = set(session.scalars(select(table.job_id)))
            assert stays.id in left, table
            assert gone.id not in left, table


def test_events_are_read_from_a_number_by_type_and_up_to_a_limit(database: Database) -> None:
    with database.write() as session:
        job, other = make_job(session), make_job(session)
        leases.job_events.append(session, other.id, [NewEvent("metric", {})], now(session))
        news = [NewEvent(kind, {}) for kind in ("metric", "warning") * 75]
        leases.job_events.append(session, job.id, news, now(session))

    def seqs(**only: Any) -> list[int]:
        with database.read() as session:
            return [event.seq for event in repository.events(session, job.owner_id, job.id, **only)]

    assert seqs() == list(range(1, 101))
    assert seqs(after_seq=149) == [150, 151]
    assert seqs(types=["warning"], limit=2) == [3, 5]
    assert seqs(types=["warning", "status"], after_seq=1, limit=1) == [3]
    assert seqs(types=[]) == []


def test_a_page_has_twenty_jobs_and_results_are_models_too(database: Database) -> None:
    with database.write() as session:
        first = make_job(session, priority=1)
    succeed(database)
    with database.write() as session:
        made = make_job(session, first.owner_id, model_job_id=first.id)
        for _ in range(20):
            make_job(session, first.owner_id, model_id=first.model_id)
    with database.read() as session:
        page = repository.list_jobs(session, first.owner_id)
        assert (len(page.data), page.has_more) == (20, True)
        of_result = repository.list_jobs(session, first.owner_id, model=first.id)
        assert [job.id for job in of_result.data] == [made.id]
