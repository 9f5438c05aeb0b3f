"""Jobs as their owner sees them: create, read, list, pause, cancel, delete. A worker uses `core.jobs.leases`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete as sql_delete
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from core.artifacts.tables import Artifact
from core.assets.repository import require_usable
from core.assets.tables import Dataset, Model
from core.clock import now
from core.db.base import Json
from core.db.pages import Page, paginate
from core.errors import Conflict, InvalidRequest, NotFound, NotReady
from core.ids import new_id
from core.jobs import events as job_events
from core.jobs.changes import change
from core.jobs.events import NewEvent
from core.jobs.fairness import turn
from core.jobs.states import ACTIVE, TERMINAL, Action, IllegalTransition, Status, transition
from core.jobs.tables import IdempotencyKey, Job, JobEvent, JobLog


@dataclass(frozen=True)
class NewJob:
    """What a job is made of: the client's `request`, the resolved `spec`, the `plan`, one of the two models.

    A teacher, likewise a model or the result of a job, is there when one was asked for. `plan` is None while the
    dataset is still to be fetched from the hub. A higher `priority` goes first. A worker with GPUs must have so
    many `gpus` for it, each of at least `gpu_memory_gib`.
    """

    request: Json
    spec: Json
    plan: Json | None
    dataset_id: str
    queue: str
    run_timeout_seconds: float
    model_id: str | None = None
    model_job_id: str | None = None
    teacher_id: str | None = None
    teacher_job_id: str | None = None
    priority: int = 0
    gpus: int = 0
    gpu_memory_gib: int = 0
    metadata: Json | None = None
    traceparent: str | None = None


def create(session: Session, owner_id: str, new: NewJob) -> Job:
    """A queued job.

    Raises NotFound, InvalidRequest or NotReady when the owner's model, teacher or dataset is not there or complete.
    """
    if (new.model_id is None) == (new.model_job_id is None):
        raise ValueError("A job has one model: a model_id or a model_job_id.")
    for model_id, pointer in _in_order({"/model": new.model_id, "/teacher": new.teacher_id}):
        require_usable(session, Model, owner_id, model_id, pointer)
    for job_id, pointer in _in_order({"/model/job": new.model_job_id, "/teacher/job": new.teacher_job_id}):
        _require_succeeded(session, owner_id, job_id, pointer)
    require_usable(session, Dataset, owner_id, new.dataset_id, "/dataset")
    at = now(session)
    job = Job(
        id=new_id("job"),
        owner_id=owner_id,
        request=new.request,
        spec=new.spec,
        plan=new.plan,
        model_id=new.model_id,
        model_job_id=new.model_job_id,
        teacher_id=new.teacher_id,
        teacher_job_id=new.teacher_job_id,
        dataset_id=new.dataset_id,
        queue=new.queue,
        gpus=new.gpus,
        gpu_memory_gib=new.gpu_memory_gib,
        priority=new.priority,
        turn=turn(at, new.priority),
        metadata_=new.metadata or {},
        run_timeout_seconds=new.run_timeout_seconds,
        traceparent=new.traceparent,
        created_at=at,
        updated_at=at,
    )
    session.add(job)
    session.flush()
    job_events.append(session, job.id, [NewEvent("status", {"status": Status.QUEUED})], at)
    session.refresh(job)
    return job


def get(session: Session, owner_id: str, job_id: str) -> Job:
    """The owner's job; raises NotFound."""
    job = session.scalars(select(Job).where(Job.id == job_id, Job.owner_id == owner_id)).one_or_none()
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job


def list_jobs(
    session: Session,
    owner_id: str,
    *,
    status: Status | None = None,
    model: str | None = None,
    cursor: str | None = None,
    limit: int = 20,
) -> Page[Job]:
    """The owner's jobs, newest first; `model` is the id of a model, or of the job that made the model."""
    query = select(Job).where(Job.owner_id == owner_id)
    if status is not None:
        query = query.where(Job.status == status)
    if model is not None:
        query = query.where((Job.model_job_id if model.startswith("job_") else Job.model_id) == model)
    return paginate(session, query, Job.id, cursor=cursor, limit=limit)


def cancel(session: Session, owner_id: str, job_id: str) -> Job:
    """Stop a job: at once when queued, at its worker's next heartbeat when running; idempotent."""
    job = _locked(session, owner_id, job_id)
    if job.status in TERMINAL or job.status == Status.CANCELING:
        return job
    at = now(session)
    status = transition(job.status, Action.CANCEL)
    change(session, job, status, at, cancel_requested_at=at)
    return job


def pause(session: Session, owner_id: str, job_id: str) -> Job:
    """Let a job rest: at once when queued, after a checkpoint when running; idempotent.

    Raises NotFound, or Conflict when it is over or being canceled.
    """
    job = _locked(session, owner_id, job_id)
    if job.status not in (Status.PAUSING, Status.PAUSED):
        status = _possible(job, Action.PAUSE)
        change(session, job, status, now(session))
    return job


def resume(session: Session, owner_id: str, job_id: str) -> Job:
    """Let a paused job go on from its last checkpoint, at the end of the queue; one that is not paused is left alone.

    Raises NotFound, or Conflict when it is over or being canceled.
    """
    job = _locked(session, owner_id, job_id)
    if job.status not in (Status.QUEUED, Status.RUNNING):
        status, at = _possible(job, Action.RESUME), now(session)
        change(session, job, status, at, turn=turn(at, job.priority))
    return job


def delete(session: Session, owner_id: str, job_id: str) -> None:
    """Forget a job and its results.

    Raises NotFound, or Conflict while it, or a job that reads its result, is not over.
    """
    job = _locked(session, owner_id, job_id)
    if job.status not in TERMINAL:
        raise Conflict(f"{job_id} is {job.status}; cancel it first.", code="not_terminal")
    reads = or_(Job.model_job_id == job_id, Job.teacher_job_id == job_id)
    users = select(Job.id).where(reads, Job.status.in_(ACTIVE)).limit(1)
    if user := session.scalars(users).one_or_none():
        raise Conflict(f"The result of {job_id} is used by {user}, which is not over yet.", code="in_use")
    session.execute(sql_delete(JobEvent).where(JobEvent.job_id == job_id))
    session.execute(sql_delete(JobLog).where(JobLog.job_id == job_id))
    session.execute(sql_delete(Artifact).where(Artifact.job_id == job_id))
    session.execute(sql_delete(IdempotencyKey).where(IdempotencyKey.job_id == job_id))
    session.delete(job)


def events(
    session: Session,
    owner_id: str,
    job_id: str,
    *,
    after_seq: int = 0,
    types: Sequence[str] | None = None,
    limit: int = 100,
) -> list[JobEvent]:
    """Events of the owner's job above `after_seq`, in order, of all types or these; raises NotFound."""
    get(session, owner_id, job_id)
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > after_seq)
    if types is not None:
        query = query.where(JobEvent.type.in_(types))
    return list(session.scalars(query.order_by(JobEvent.seq).limit(limit)))


def _in_order(found: Mapping[str, str | None]) -> list[tuple[str, str]]:
    """The ids that are there, each with its place in the request, in the one order in which rows are locked."""
    return sorted((asset_id, pointer) for pointer, asset_id in found.items() if asset_id is not None)


def _require_succeeded(session: Session, owner_id: str, job_id: str, pointer: str) -> None:
    job = _locked(session, owner_id, job_id)
    if job.status in ACTIVE:
        raise NotReady(f"{job_id} is {job.status}; its model is not there yet.", param=pointer)
    if job.status != Status.SUCCEEDED:
        raise InvalidRequest(f"{job_id} {job.status}; it has no model.", param=pointer, code="no_model")


def _possible(job: Job, action: Action) -> Status:
    try:
        return transition(job.status, action)
    except IllegalTransition as error:
        raise Conflict(f"{job.id} is {job.status}; it cannot {action} any more.", code="too_late") from error


def _locked(session: Session, owner_id: str, job_id: str) -> Job:
    query = select(Job).where(Job.id == job_id, Job.owner_id == owner_id)
    job = session.scalars(query.with_for_update().execution_options(populate_existing=True)).one_or_none()
    if job is None:
        raise NotFound(f"There is no job {job_id}.")
    return job
