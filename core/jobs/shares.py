"""How much of the machines each owner had lately, in one number that needs no clock to be compared.

What an owner used halves every hour. Rather than to let every number shrink as time goes by, what is used later
counts for more, and the logarithm is kept: `Owner.recent_use` = log2(sum of seconds x 2^(hour of their use)).
"""

import math
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.accounts.device_time import count, devices
from core.accounts.tables import Owner
from core.db.base import Json
from core.db.writes import rows_changed
from core.jobs.tables import Job

HALF_LIFE_SECONDS = 3600.0

CHARGE_EVERY = timedelta(seconds=10)
"""While a job runs its time is counted no more often than this; what is missing comes with the end of the attempt."""


def charge(session: Session, job: Job, at: datetime) -> Json:
    """Count the time that a running job has held its devices; returns the columns of its row that change.

    Nothing is counted beyond its lease, also when nobody notices for days that its worker is dead. The caller's
    transaction holds the job's row.
    """
    if job.charged_at is None:
        return {}
    until = at if job.lease_until is None else min(at, job.lease_until)
    seconds = max(0.0, (until - job.charged_at).total_seconds()) * devices(job)
    count(session, job.owner_id, job.charged_at, until, devices(job))
    mine = Owner.id == job.owner_id
    # Not FOR UPDATE: jobs of the owner that are just being created refer to the row.
    before = session.scalars(select(Owner.recent_use).where(mine).with_for_update(key_share=True)).one()
    rows_changed(session, update(Owner).where(mine).values(recent_use=added(before, seconds, until)))
    return {"device_seconds": job.device_seconds + seconds, "charged_at": at}


def is_due(job: Job, at: datetime) -> bool:
    """Whether a running job's time should be counted now."""
    return job.charged_at is not None and at - job.charged_at >= CHARGE_EVERY


def added(recent_use: float, seconds: float, at: datetime) -> float:
    """`recent_use` with so many device-seconds more that were used just before `at`."""
    if seconds <= 0:
        return recent_use
    more = math.log2(seconds) + at.timestamp() / HALF_LIFE_SECONDS
    lesser, greater = sorted((recent_use, more))
    return greater + math.log2(1 + 2.0 ** (lesser - greater))
