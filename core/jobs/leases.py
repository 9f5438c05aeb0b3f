"""Jobs as a worker sees them: claim one under a lease, renew it, end it; every write names its token."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from random import SystemRandom

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.artifacts.tables import Artifact
from core.clock import now
from core.db.base import Json
from core.errors import LeaseLost
from core.ids import new_id
from core.jobs import events as job_events
from core.jobs.changes import change, write
from core.jobs.events import NewEvent
from core.jobs.fairness import lock_best
from core.jobs.states import HELD, Action, IllegalTransition, RetryPolicy, Status, judge, transition
from core.jobs.tables import Job
from pruning.errors import ErrorClass

_random = SystemRandom()


@dataclass(frozen=True)
class Token:
    """The right to write about one attempt of a job, until another attempt begins."""

    job_id: str
    attempt: int
    worker_id: str


@dataclass(frozen=True)
class Claim:
    """A job in a worker's hands: what to do, on what, and for how long.

    `capacity_retries` above 0 asks for smaller batches: an earlier attempt ran out of memory. The inputs are
    found by `core.inputs.find_inputs`.
    """

    token: Token
    owner_id: str
    spec: Json
    plan: Json | None
    model_id: str | None
    model_job_id: str | None
    teacher_id: str | None
    teacher_job_id: str | None
    dataset_id: str
    run_timeout_seconds: float
    capacity_retries: int
    traceparent: str | None

    @property
    def previous_attempts(self) -> range:
        """The earlier attempts, newest first."""
        return range(self.token.attempt - 1, 0, -1)


@dataclass(frozen=True)
class Renewal:
    """A lease renewed; `cancel` says that the owner wants the job stopped."""

    cancel: bool


@dataclass(frozen=True)
class ArtifactRecord:
    """A file of a result that is in the store already, by its name there such as `model/config.json`."""

    name: str
    bytes: int
    sha256: str
    media_type: str


@dataclass(frozen=True)
class JobError:
    """Why an attempt failed; `param` is a JSON pointer into the request."""

    code: str
    error_class: ErrorClass
    message: str
    param: str = ""

    def as_json(self) -> Json:
        """The error as replies show it."""
        return {"code": self.code, "class": self.error_class, "message": self.message, "param": self.param}


def claim(session: Session, *, worker_id: str, queues: Sequence[str], lease_seconds: float) -> Claim | None:
    """Take the best job that is due, as `fairness.lock_best` finds it.

    Needs a writing session: SQLite's BEGIN IMMEDIATE lets one claim in at a time, on PostgreSQL claims skip
    each other's rows. None when nothing is due.
    """
    at = now(session)
    job = lock_best(session, queues, at)
    if job is None:
        return None
    values: Json = {
        "attempt": job.attempt + 1,
        "worker_id": worker_id,
        "lease_until": at + timedelta(seconds=lease_seconds),
        "started_at": job.started_at or at,
        "next_attempt_at": None,
    }
    if not change(session, job, transition(job.status, Action.CLAIM), at, **values):
        return None
    return Claim(
        token=Token(job.id, job.attempt, worker_id),
        owner_id=job.owner_id,
        spec=job.spec,
        plan=job.plan,
        model_id=job.model_id,
        model_job_id=job.model_job_id,
        teacher_id=job.teacher_id,
        teacher_job_id=job.teacher_job_id,
        dataset_id=job.dataset_id,
        run_timeout_seconds=job.run_timeout_seconds,
        capacity_retries=job.capacity_retries,
        traceparent=job.traceparent,
    )


def renew(
    session: Session,
    token: Token,
    *,
    lease_seconds: float,
    events: Sequence[NewEvent] = (),
    phase: str | None = None,
    progress: float | None = None,
    metrics: Json | None = None,
    events_per_job: int = 10_000,
) -> Renewal:
    """Keep the lease, and write what happened since.

    `progress` never goes back; `metrics` are merged into the latest. At most one progress event a second is
    kept. Raises LeaseLost.
    """
    job = _held(session, token)
    at = now(session)
    kept = job_events.thin_progress(session, job.id, events, at)
    write(
        session,
        job,
        at,
        lease_until=at + timedelta(seconds=lease_seconds),
        phase=phase or job.phase,
        progress=max(job.progress, min(progress or 0.0, 1.0)),
        metrics={**job.metrics, **(metrics or {})},
    )
    job_events.append(session, job.id, kept, at)
    if job.event_seq + len(kept) > events_per_job:
        job_events.enforce_limit(session, job.id, events_per_job)
    return Renewal(cancel=job.status == Status.CANCELING)


def finish(session: Session, token: Token, *, artifacts: Sequence[ArtifactRecord], report: Json) -> None:
    """Publish a result: from this commit on the job has succeeded and its artifacts exist.

    Every artifact must be in the store already. A repetition by the same attempt changes nothing, so a worker
    that does not know whether its commit took place may simply try again. Raises LeaseLost.
    """
    if _finished_before(session, token):
        return
    job = _held(session, token)
    at = now(session)
    change(session, job, transition(job.status, Action.FINISH), at, progress=1.0, report=report, error=None)
    for record in artifacts:
        session.add(
            Artifact(
                id=new_id("art"),
                job_id=job.id,
                attempt=token.attempt,
                name=record.name,
                bytes=record.bytes,
                sha256=record.sha256,
                media_type=record.media_type,
                created_at=at,
            )
        )


def fail(session: Session, token: Token, error: JobError, policy: RetryPolicy) -> Status:
    """End an attempt that failed; the error's class decides whether another follows. Raises LeaseLost."""
    job = _held(session, token)
    return end_attempt(session, job, error, policy)


def release(session: Session, token: Token, reason: str) -> None:
    """Give a job back for another worker to continue at once; costs it nothing. Raises LeaseLost."""
    job = _held(session, token)
    status = transition(job.status, Action.REQUEUE)
    change(session, job, status, now(session), event={"reason": reason}, worker_id=None, lease_until=None)


def confirm_cancel(session: Session, token: Token) -> None:
    """Say that a job which was to be canceled has stopped. Raises LeaseLost, also when nobody canceled it."""
    job = _held(session, token)
    try:
        status = transition(job.status, Action.CONFIRM_CANCEL)
    except IllegalTransition as error:
        raise LeaseLost(f"Nobody asked to cancel {token.job_id}.") from error
    change(session, job, status, now(session))


def end_attempt(session: Session, job: Job, error: JobError, policy: RetryPolicy) -> Status:
    """Requeue, fail or cancel a job whose attempt is over, as `judge` says; the caller holds the row."""
    at = now(session)
    verdict = judge(
        error.error_class, failures=job.failures, capacity_retries=job.capacity_retries, policy=policy
    )
    action = (
        Action.FAIL
        if verdict.action is Action.CONFIRM_CANCEL and job.status is Status.RUNNING
        else verdict.action
    )
    status = transition(job.status, action)
    wait = timedelta(seconds=_random.uniform(0, verdict.wait_seconds))
    values: Json = {
        "failures": verdict.failures,
        "capacity_retries": verdict.capacity_retries,
        "lease_until": None,
    }
    if status is Status.QUEUED:
        values |= {"worker_id": None, "next_attempt_at": at + wait}
    if status is Status.FAILED:
        values |= {"error": error.as_json()}
    if error.error_class == "infrastructure":
        lost = {"attempt": job.attempt, "code": error.code, "message": error.message}
        job_events.append(session, job.id, [NewEvent("attempt_lost", lost)], at)
    change(session, job, status, at, event={"reason": error.code}, **values)
    return status


def _held(session: Session, token: Token) -> Job:
    """The row of a token that is still good, locked; raises LeaseLost."""
    query = select(Job).where(
        Job.id == token.job_id,
        Job.attempt == token.attempt,
        Job.worker_id == token.worker_id,
        Job.status.in_(HELD),
    )
    job = session.scalars(query.with_for_update().execution_options(populate_existing=True)).one_or_none()
    if job is None:
        raise LeaseLost(f"Attempt {token.attempt} of {token.job_id} is no longer {token.worker_id}'s.")
    return job


def _finished_before(session: Session, token: Token) -> bool:
    query = select(Job.id).where(
        Job.id == token.job_id,
        Job.attempt == token.attempt,
        Job.worker_id == token.worker_id,
        Job.status == Status.SUCCEEDED,
    )
    return session.scalars(query).one_or_none() is not None
