"""Jobs as a worker sees them: claim one under a lease, renew it, end it; every write names its token."""

from collections.abc import Sequence
from datetime import timedelta
from random import SystemRandom

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.accounts.quotas import UNLIMITED, Quotas, take_running
from core.artifacts.repository import ArtifactRecord, publish
from core.clock import now
from core.db.base import Json
from core.errors import LeaseLost
from core.jobs import events as job_events
from core.jobs import shares
from core.jobs.attempts import Claim, JobError, Renewal, Token
from core.jobs.changes import change, write
from core.jobs.events import NewEvent
from core.jobs.fairness import lock_best
from core.jobs.states import HELD, Action, IllegalTransition, RetryPolicy, Status, judge, transition
from core.jobs.tables import Job

_random = SystemRandom()


def claim(
    session: Session,
    *,
    worker_id: str,
    queues: Sequence[str],
    lease_seconds: float,
    gpus: int | None = None,
    gpu_memory_gib: float = 0.0,
    quotas: Quotas = UNLIMITED,
) -> Claim | None:
    """Take the best job that is due, as `fairness.lock_best` finds it, of an owner whose limits allow it.

    A worker with GPUs says how many of them a job would have, and how much memory the smallest has: it gets
    nothing that wants more. `quotas` are the limits of owners without their own. Needs a writing session: SQLite's
    BEGIN IMMEDIATE lets one claim in at a time, on PostgreSQL claims skip each other's rows. None when nothing may
    begin.
    """
    at = now(session)
    job = lock_best(session, queues, at, gpus=gpus, gpu_memory_gib=gpu_memory_gib, quotas=quotas)
    if job is None or not take_running(session, job.owner_id, quotas):
        return None
    values: Json = {
        "attempt": job.attempt + 1,
        "worker_id": worker_id,
        "lease_until": at + timedelta(seconds=lease_seconds),
        "started_at": job.started_at or at,
        "next_attempt_at": None,
        "charged_at": at,
    }
    change(session, job, transition(job.status, Action.CLAIM), at, **values)
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
    used = shares.charge(session, job, at) if shares.is_due(job, at) else {}
    write(
        session,
        job,
        at,
        lease_until=at + timedelta(seconds=lease_seconds),
        phase=phase or job.phase,
        progress=max(job.progress, min(progress or 0.0, 1.0)),
        metrics={**job.metrics, **(metrics or {})},
        **used,
    )
    job_events.append(session, job.id, kept, at)
    if job.event_seq + len(kept) > events_per_job:
        job_events.enforce_limit(session, job.id, events_per_job)
    return Renewal(cancel=job.status == Status.CANCELING, pause=job.status == Status.PAUSING)


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
    publish(session, job.id, token.attempt, artifacts, at)


def fail(session: Session, token: Token, error: JobError, policy: RetryPolicy) -> Status:
    """End an attempt that failed; the error's class decides whether another follows. Raises LeaseLost."""
    job = _held(session, token)
    return end_attempt(session, job, error, policy)


def release(session: Session, token: Token, reason: str) -> Status:
    """Give a job back, for another worker to continue at once or when it is resumed; costs it no failure.

    Raises LeaseLost.
    """
    job = _held(session, token)
    status = transition(job.status, Action.REQUEUE)
    event = {"reason": reason} if status is Status.QUEUED else {}
    change(session, job, status, now(session), event=event, worker_id=None)
    return status


def confirm_cancel(session: Session, token: Token) -> None:
    """Say that a job which was to be canceled has stopped. Raises LeaseLost, also when nobody canceled it."""
    job = _held(session, token)
    try:
        status = transition(job.status, Action.CONFIRM_CANCEL)
    except IllegalTransition as error:
        raise LeaseLost(f"Nobody asked to cancel {token.job_id}.") from error
    change(session, job, status, now(session))


def end_attempt(session: Session, job: Job, error: JobError, policy: RetryPolicy) -> Status:
    """Requeue, pause, fail or cancel a job whose attempt is over, as `judge` says; the caller holds the row."""
    at = now(session)
    verdict = judge(
        error.error_class, failures=job.failures, capacity_retries=job.capacity_retries, policy=policy
    )
    action = (
        Action.FAIL
        if verdict.action is Action.CONFIRM_CANCEL and job.status is not Status.CANCELING
        else verdict.action
    )
    status = transition(job.status, action)
    wait = timedelta(seconds=_random.uniform(0, verdict.wait_seconds))
    values: Json = {"failures": verdict.failures, "capacity_retries": verdict.capacity_retries}
    if status in (Status.QUEUED, Status.PAUSED):
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
