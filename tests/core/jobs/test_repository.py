"""The owner's side of a job, on both databases."""

import pytest

from core.artifacts import repository as artifacts
from core.artifacts.repository import ArtifactRecord
from core.assets import repository as assets
from core.assets.tables import Model
from core.db import Database
from core.errors import Conflict, InvalidRequest, NotFound, NotReady
from core.jobs import leases, repository
from core.jobs.repository import NewJob
from core.jobs.states import Status
from tests.support.ledger import make_dataset, make_job, make_model, make_owner


def succeed(database: Database, names: tuple[str, ...] = ("report.json",)) -> None:
    records = [ArtifactRecord(name, 1, "a" * 64, "application/json") for name in names]
    with database.write() as session:
        claim = leases.claim(session, worker_id="w", queues=["cpu"], lease_seconds=60)
        assert claim is not None
        leases.finish(session, claim.token, artifacts=records, report={"kind": "shrunk"})


def test_a_new_job_is_queued_with_an_event(database: Database) -> None:
    with database.write() as session:
        job = make_job(session, metadata={"team": "search"}, priority=3)
    with database.read() as session:
        found = repository.get(session, job.owner_id, job.id)
        events = repository.events(session, job.owner_id, job.id)
    assert (found.status, found.attempt, found.metadata_, found.priority) == (
        Status.QUEUED,
        0,
        {"team": "search"},
        3,
    )
    assert [(event.seq, event.type, event.data["status"]) for event in events] == [(1, "status", "queued")]


def test_another_owners_job_is_not_found(database: Database) -> None:
    with database.write() as session:
        job = make_job(session)
        other = make_owner(session)
    for act in (
        lambda session: repository.get(session, other, job.id),
        lambda session: repository.cancel(session, other, job.id),
        lambda session: repository.delete(session, other, job.id),
        lambda session: repository.events(session, other, job.id),
    ):
        with pytest.raises(NotFound), database.write() as session:
            act(session)
    with database.read() as session:
        assert repository.list_jobs(session, other).data == []


def test_a_job_needs_the_owners_own_complete_inputs(database: Database) -> None:
    with database.write() as session:
        owner, other = make_owner(session), make_owner(session)
        foreign = make_model(session, other)
        uploading = assets.create_model(session, owner_id=owner, name="half").id
        unfinished = make_job(session, owner)
    with pytest.raises(NotFound), database.write() as session:
        make_job(session, owner, model_id=foreign)
    with pytest.raises(InvalidRequest) as refused, database.write() as session:
        make_job(session, owner, model_id=uploading)
    assert (refused.value.code, refused.value.param) == ("not_complete", "/model")
    with pytest.raises(NotReady), database.write() as session:
        make_job(session, owner, model_job_id=unfinished.id)
    with database.write() as session:
        repository.cancel(session, owner, unfinished.id)
    with pytest.raises(InvalidRequest, match="no model"), database.write() as session:
        make_job(session, owner, model_job_id=unfinished.id)
    with pytest.raises(InvalidRequest) as refused, database.write() as session:
        make_job(session, owner, teacher_id=uploading)
    assert refused.value.param == "/teacher"
    with pytest.raises(InvalidRequest) as refused, database.write() as session:
        make_job(session, owner, teacher_job_id=unfinished.id)
    assert (refused.value.code, refused.value.param) == ("no_model", "/teacher/job")
    new = NewJob(request={}, spec={}, plan=None, dataset_id="dst_x", queue="cpu", run_timeout_seconds=1)
    with pytest.raises(ValueError, match="one model"), database.write() as session:
        repository.create(session, owner, new)


def test_pages_walk_every_job_once_newest_first(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        dataset = make_dataset(session, owner)
        model = make_model(session, owner)
        ids = [make_job(session, owner, model_id=model, dataset_id=dataset).id for _ in range(7)]
    seen, cursor = [], None
    while True:
        with database.read() as session:
            page = repository.list_jobs(session, owner, cursor=cursor, limit=3)
        seen += [job.id for job in page.data]
        assert page.has_more == (page.next_cursor is not None)
        if not page.has_more:
            break
        cursor = page.next_cursor
    assert seen == sorted(ids, reverse=True)


def test_lists_filter_by_status_and_model(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        first, second = make_job(session, owner), make_job(session, owner)
        repository.cancel(session, owner, second.id)
    with database.read() as session:
        queued = repository.list_jobs(session, owner, status=Status.QUEUED)
        of_model = repository.list_jobs(session, owner, model=second.model_id)
    assert [job.id for job in queued.data] == [first.id]
    assert [job.id for job in of_model.data] == [second.id]


def test_a_queued_job_is_canceled_at_once_and_again_without_effect(database: Database) -> None:
    with database.write() as session:
        job = make_job(session)
    versions = []
    for _ in range(2):
        with database.write() as session:
            canceled = repository.cancel(session, job.owner_id, job.id)
        versions.append(canceled.version)
        assert canceled.status == Status.CANCELED
        assert canceled.finished_at is not None
    assert versions[0] == versions[1]


def test_only_a_job_that_is_over_and_unused_is_deleted(database: Database) -> None:
    with database.write() as session:
        job = make_job(session)
    with pytest.raises(Conflict, match="cancel it first"), database.write() as session:
        repository.delete(session, job.owner_id, job.id)
    succeed(database, ("model/config.json",))
    for role in ("model_job_id", "teacher_job_id"):
        with database.write() as session:
            second = make_job(session, job.owner_id, **{role: job.id})
        with pytest.raises(Conflict, match=second.id), database.write() as session:
            repository.delete(session, job.owner_id, job.id)
        with database.write() as session:
            repository.cancel(session, job.owner_id, second.id)
    with database.write() as session:
        repository.delete(session, job.owner_id, job.id)
    with pytest.raises(NotFound), database.read() as session:
        repository.get(session, job.owner_id, job.id)


def test_results_are_found_by_their_owner_only(database: Database) -> None:
    with database.write() as session:
        job = make_job(session)
        other = make_owner(session)
    succeed(database, ("report.json", "model/config.json"))
    with database.read() as session:
        found = artifacts.list_artifacts(session, job)
        assert [artifact.name for artifact in found] == ["model/config.json", "report.json"]
        assert artifacts.get(session, job.owner_id, found[0].id).name == "model/config.json"
        with pytest.raises(NotFound):
            artifacts.get(session, other, found[0].id)


def test_a_used_model_is_not_deleted_and_an_unused_one_is(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        job = make_job(session, owner, teacher_id=make_model(session, owner))
    used = (str(job.model_id), str(job.teacher_id))
    for model_id in used:
        with pytest.raises(Conflict, match=job.id), database.write() as session:
            assets.delete(session, Model, owner, model_id)
    with database.write() as session:
        repository.cancel(session, owner, job.id)
        for model_id in used:
            assets.delete(session, Model, owner, model_id)
    for model_id in used:
        with pytest.raises(NotFound), database.read() as session:
            assets.get(session, Model, owner, model_id)
