"""What an owner may have and use: limits of the settings or of the owner's own row, and how far they are used.

What is asked for beyond a limit is refused with the figures; jobs beyond `running_jobs` wait in the queue. The
checks lock the owner's row, so that requests at the same moment cannot pass a limit together.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime

from sqlalchemy import ColumnElement, Select, and_, func, or_, select
from sqlalchemy.orm import Session

from core.accounts.device_time import next_day, used_today
from core.accounts.tables import Owner
from core.artifacts.tables import Artifact
from core.assets.tables import Dataset, Model
from core.clock import now
from core.errors import NotFound, QuotaExceeded
from core.jobs.states import HELD, Status
from core.jobs.tables import Job
from core.settings import Settings
from core.uploads.tables import Upload, UploadStatus


@dataclass(frozen=True)
class Quotas:
    """Limits of one owner; None is no limit. Bytes are those of models, datasets and results together.

    Device seconds are seconds times devices that attempts have from one midnight (UTC) to the next.
    """

    queued_jobs: int | None = None
    running_jobs: int | None = None
    stored_bytes: int | None = None
    device_seconds: int | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> "Quotas":
        """The limits of owners that have none of their own."""
        return cls(*(getattr(settings, f"max_{field.name}") for field in fields(cls)))

    def of(self, owner: Owner) -> "Quotas":
        """These limits, with the owner's own in their place."""
        own = {field.name: getattr(owner, f"max_{field.name}") for field in fields(self)}
        return Quotas(
            **{name: getattr(self, name) if limit is None else limit for name, limit in own.items()}
        )


UNLIMITED = Quotas()


def set_limits(owner: Owner, limits: Mapping[str, int | None]) -> None:
    """Give the owner limits of its own, by their names in `Quotas`; None gives back that of the settings."""
    for name, limit in limits.items():
        setattr(owner, f"max_{name}", limit)


@dataclass(frozen=True)
class Usage:
    """What an owner has and uses at a moment, as `Quotas` counts it."""

    queued_jobs: int
    running_jobs: int
    stored_bytes: int
    device_seconds: int


def usage(session: Session, owner_id: str) -> Usage:
    """How far the owner's limits are used."""
    return Usage(
        queued_jobs=_count(session, owner_id, Job.status == Status.QUEUED),
        running_jobs=_count(session, owner_id, Job.status.in_(HELD)),
        stored_bytes=stored_bytes(session, owner_id),
        device_seconds=used_today(session, owner_id, now(session)),
    )


def hold(session: Session, owner_id: str) -> None:
    """Let no other check about this owner pass until this transaction ends.

    For transactions that lock rows of the owner before they check: all take the owner first.
    """
    _locked(session, owner_id)


def check_new_job(session: Session, owner_id: str, defaults: Quotas) -> None:
    """Raise QuotaExceeded when the owner may queue no further job."""
    limits = defaults.of(_locked(session, owner_id))
    if limits.queued_jobs is not None:
        queued = _count(session, owner_id, Job.status == Status.QUEUED)
        if queued >= limits.queued_jobs:
            remedy = "wait until one starts, or cancel one"
            raise _exceeded("queued_jobs", "queued jobs", queued, limits.queued_jobs, remedy)
    if limits.device_seconds is not None:
        at = now(session)
        used = used_today(session, owner_id, at)
        if used >= limits.device_seconds:
            remedy = "the count begins anew at midnight UTC"
            what = "device seconds of today"
            raise _exceeded("device_seconds", what, used, limits.device_seconds, remedy, next_day(at))
    _check_bytes(session, owner_id, limits, more=1)


def check_stored(session: Session, owner_id: str, defaults: Quotas) -> None:
    """Raise QuotaExceeded when the owner's files, with those of this transaction, are more than allowed."""
    session.flush()
    _check_bytes(session, owner_id, defaults.of(_locked(session, owner_id)))


def check_room(session: Session, owner_id: str, defaults: Quotas) -> None:
    """Raise QuotaExceeded when there is no room for a further byte; reads only, so before a body is read."""
    owner = session.get(Owner, owner_id)
    if owner is not None:
        _check_bytes(session, owner_id, defaults.of(owner), more=1)


def within_limits(
    defaults: Quotas, running: ColumnElement[int], device_seconds: ColumnElement[float]
) -> ColumnElement[bool]:
    """Whether jobs of an `Owner` may begin: few enough run, and the day's device time is not over."""
    limits = (
        func.coalesce(Owner.max_running_jobs, defaults.running_jobs),
        func.coalesce(Owner.max_device_seconds, defaults.device_seconds),
    )
    used = (running, device_seconds)
    return and_(*(or_(limit.is_(None), use < limit) for limit, use in zip(limits, used, strict=True)))


def take_running(session: Session, owner_id: str, defaults: Quotas) -> bool:
    """Whether the owner may have one more running job, asked by a claim that holds a row of theirs.

    False also while somebody else decides about this owner: who waited here for a lock could be waited for.
    """
    owner = session.get(Owner, owner_id)
    if owner is None or defaults.of(owner).running_jobs is None:
        return True
    owner = session.scalars(_lock(owner_id, skip_locked=True)).one_or_none()
    limit = None if owner is None else defaults.of(owner).running_jobs
    return limit is not None and _count(session, owner_id, Job.status.in_(HELD)) < limit


def stored_bytes(session: Session, owner_id: str) -> int:
    """Bytes of the owner's models, datasets and results; equal files count as often as they are named.

    A file that arrives in parts counts as a whole from its declaration.
    """
    results = select(Artifact.bytes).join(Job, Job.id == Artifact.job_id).where(Job.owner_id == owner_id)
    parts = [select(kind.bytes).where(kind.owner_id == owner_id) for kind in (Model, Dataset)]
    arriving = select(Upload.bytes).where(
        Upload.owner_id == owner_id, Upload.status == UploadStatus.RECEIVING
    )
    each = parts[0].union_all(parts[1], results, arriving).subquery()
    return int(session.scalars(select(func.coalesce(func.sum(each.c.bytes), 0))).one())


def _check_bytes(session: Session, owner_id: str, limits: Quotas, *, more: int = 0) -> None:
    if limits.stored_bytes is None:
        return
    used = stored_bytes(session, owner_id)
    if used + more > limits.stored_bytes:
        remedy = "delete models, datasets or jobs"
        raise _exceeded("stored_bytes", "stored bytes", used, limits.stored_bytes, remedy)


def _exceeded(
    quota: str, what: str, used: int, limit: int, remedy: str, frees_at: datetime | None = None
) -> QuotaExceeded:
    message = f"The limit of {limit:,} {what} is reached ({used:,}): {remedy}."
    return QuotaExceeded(message, quota=quota, limit=limit, used=used, frees_at=frees_at)


def _count(session: Session, owner_id: str, condition: ColumnElement[bool]) -> int:
    query = select(func.count()).select_from(Job).where(Job.owner_id == owner_id, condition)
    return session.scalars(query).one()


def _locked(session: Session, owner_id: str) -> Owner:
    owner = session.scalars(_lock(owner_id)).one_or_none()
    if owner is None:
        raise NotFound(f"There is no owner {owner_id}.")
    return owner


def _lock(owner_id: str, *, skip_locked: bool = False) -> Select[Owner]:
    # Not against the key share lock that a new row of theirs takes on the owner: only checks wait for checks.
    query = select(Owner).where(Owner.id == owner_id).with_for_update(key_share=True, skip_locked=skip_locked)
    return query.execution_options(populate_existing=True)
