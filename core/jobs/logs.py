"""The last lines of the processes of a job: a worker writes them, the owner reads the end of them."""

from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.clock import now
from core.errors import NotFound
from core.jobs import repository
from core.jobs.tables import JobLog

KEPT_ATTEMPTS = 5
"""A job that is handed from worker to worker has many attempts; only the last ones' lines are kept."""


@dataclass(frozen=True)
class Tail:
    """The end of what was written in one attempt, and how many bytes all of it had (UTF-8)."""

    text: str
    bytes: int


@dataclass(frozen=True)
class LogEnd:
    """The end of an attempt's log; nothing was written when `attempt` is 0 or `bytes` is."""

    attempt: int
    text: str
    bytes: int


def write(session: Session, job_id: str, attempt: int, tail: Tail) -> None:
    """Keep what an attempt has written so far. The caller's transaction has proven that the attempt holds the job."""
    session.merge(JobLog(job_id=job_id, attempt=attempt, text=tail.text, bytes=tail.bytes, at=now(session)))
    old = delete(JobLog).where(JobLog.job_id == job_id, JobLog.attempt <= attempt - KEPT_ATTEMPTS)
    session.execute(old, execution_options={"synchronize_session": False})


def read(session: Session, owner_id: str, job_id: str, *, attempt: int | None, limit: int) -> LogEnd:
    """At most the last `limit` bytes of an attempt, by default the latest; whole lines where any fits.

    Raises NotFound when the owner has no such job, or the job no such attempt, or no longer its log.
    """
    job = repository.get(session, owner_id, job_id)
    number = job.attempt if attempt is None else attempt
    row = session.scalars(
        select(JobLog).where(JobLog.job_id == job_id, JobLog.attempt == number)
    ).one_or_none()
    if row is not None:
        return LogEnd(number, last_lines(row.text, limit), row.bytes)
    if number != job.attempt:
        raise NotFound(f"{job_id} has no log of attempt {number}; its latest attempt is {job.attempt}.")
    return LogEnd(number, "", 0)


def last_lines(text: str, limit: int) -> str:
    """The end of a text, at most `limit` bytes of UTF-8; it begins with a whole line where one fits."""
    encoded = text.encode()
    if len(encoded) <= limit:
        return text
    end = encoded[-limit:]
    _, newline, whole = end.partition(b"\n")
    if encoded[-limit - 1 : -limit] == b"\n" or not (newline and whole):
        whole = end
    return whole.decode(errors="ignore")
