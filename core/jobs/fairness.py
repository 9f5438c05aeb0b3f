"""Which job a worker should take next.

A line is the jobs of one owner in one queue. Within a line the job with the least `turn` is next. Between lines the one
whose first job has the highest priority is next, where a minute of waiting counts as much as a point of priority, up
to the highest priority that waits. Of lines that are equal then, and without priorities all are, the one whose owner
runs fewest jobs is next, and of those the one whose owner had least of the machines in the last hours.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cache

from sqlalchemy import (
    CTE,
    BindParameter,
    ColumnElement,
    Date,
    Double,
    Select,
    Subquery,
    bindparam,
    case,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.orm import Session, aliased

from core.accounts.device_time import day_of
from core.accounts.quotas import UNLIMITED, Quotas, within_limits
from core.accounts.tables import DeviceUse, Owner
from core.db.base import Moment
from core.jobs.states import HELD, Status
from core.jobs.tables import Job

POINT_SECONDS = 60.0
"""How long a job has to wait to be as far as one of the next higher priority that just came."""

_LINES = 20
"""Lines that are tried when other workers are just taking the jobs of the best ones."""

# Written into statements, so that they are known to be about the jobs of a partial index.
QUEUED: ColumnElement[bool] = Job.status == literal_column("'queued'")
RUNNING: ColumnElement[bool] = Job.status.in_([literal_column(f"'{status}'") for status in sorted(HELD)])


def turn(queued_at: datetime, priority: int) -> float:
    """When a job of priority 0 would have been queued to be as far, in seconds since 1970."""
    return queued_at.timestamp() - POINT_SECONDS * priority


def is_due(at: datetime | BindParameter[datetime]) -> ColumnElement[bool]:
    """Whether a queued job may begin, or still waits after a failed attempt."""
    return or_(Job.next_attempt_at.is_(None), Job.next_attempt_at <= at)


def lock_best(
    session: Session,
    queues: Sequence[str],
    at: datetime,
    *,
    gpus: int | None = None,
    gpu_memory_gib: float = 0.0,
    quotas: Quotas = UNLIMITED,
) -> Job | None:
    """The next job of these queues that is due, with its row locked; None when nothing is.

    With `gpus`, only one that wants no more of them, and no more of memory. Jobs of owners at a limit wait; `quotas`
    are the limits of owners without their own. Rows that another transaction has
    locked are skipped, where the database can do that.
    """
    lines, first = _statements(tuple(queues), gpus is not None, quotas)
    values = {
        "at": at,
        "day": day_of(at),
        "seconds": at.timestamp(),
        "gpus": gpus,
        "gpu_memory_gib": gpu_memory_gib,
    }
    for owner_id, queue in session.execute(lines, values).all():
        job = session.scalars(first, values | {"owner_id": owner_id, "queue": queue}).one_or_none()
        if job is not None:
            return job
    return None


@cache  # to build them takes longer than to ask them
def _statements(
    queues: tuple[str, ...], counts_gpus: bool, quotas: Quotas
) -> tuple[Select[str, str], Select[Job]]:
    """The lines of these queues, best first, and the first job of one of them."""
    wanted = [QUEUED, is_due(bindparam("at", type_=Moment))]
    if counts_gpus:
        wanted += [
            Job.gpus <= bindparam("gpus"),
            Job.gpu_memory_gib <= bindparam("gpu_memory_gib", type_=Double),
        ]
    heads = first_of_each_line(queues, wanted)
    held = select(Job.owner_id, func.count().label("jobs")).where(RUNNING).group_by(Job.owner_id)
    busy = held.subquery("busy")
    running = func.coalesce(busy.c.jobs, 0)
    all_alike = bindparam("seconds", type_=Double) - POINT_SECONDS * func.max(Job.priority).over()
    lines = (
        select(Job.owner_id, Job.queue)
        .join(heads, heads.c.id == Job.id)
        .join(Owner, Owner.id == Job.owner_id)
        .outerjoin(busy, busy.c.owner_id == Job.owner_id)
        .outerjoin(
            DeviceUse, (DeviceUse.owner_id == Job.owner_id) & (DeviceUse.day == bindparam("day", type_=Date))
        )
        .where(within_limits(quotas, running, func.coalesce(DeviceUse.seconds, 0)))
        .order_by(
            case((Job.turn < all_alike, all_alike), else_=Job.turn),
            running,
            Owner.recent_use,
            Job.turn,
            Job.id,
        )
        .limit(_LINES)
    )
    line = (Job.owner_id == bindparam("owner_id"), Job.queue == bindparam("queue"))
    first = select(Job).where(*line, *wanted).order_by(Job.turn, Job.id).limit(1)
    return lines, first.with_for_update(skip_locked=True).execution_options(populate_existing=True)


def first_of_each_line(queues: Sequence[str], wanted: Sequence[ColumnElement[bool]]) -> Subquery:
    """The `id` of the first job of each line for which `wanted` holds; null where there is none.

    Costs a few steps down an index for each owner with queued jobs and each queue, however many jobs there are.
    """
    owners = _owners_that_wait()
    names = union_all(*(select(literal(name).label("queue")) for name in queues)).subquery("queues")
    first = (
        select(Job.id)
        .where(Job.owner_id == owners.c.owner_id, Job.queue == names.c.queue, *wanted)
        .order_by(Job.turn, Job.id)
        .limit(1)
        .correlate(owners, names)
        .scalar_subquery()
    )
    return select(first.label("id")).select_from(owners.join(names, true())).subquery("heads")


def _owners_that_wait() -> CTE:
    """The owners of queued jobs, found by stepping from each to the next rather than by reading all jobs."""
    least = select(func.min(Job.owner_id).label("owner_id")).where(QUEUED)
    owners = least.cte("owners_that_wait", recursive=True)
    other = aliased(Job)
    following = (
        select(func.min(other.owner_id))
        .where(other.status == literal_column(f"'{Status.QUEUED}'"), other.owner_id > owners.c.owner_id)
        .correlate(owners)
        .scalar_subquery()
    )
    return owners.union_all(select(following).where(owners.c.owner_id.is_not(None)))
