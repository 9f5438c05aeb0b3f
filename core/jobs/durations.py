"""How long an owner's earlier jobs took, for an estimate of the next."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.assets.tables import Dataset
from core.db.base import Json
from core.jobs.states import Status
from core.jobs.tables import Job

_LOOKED_AT = 50


@dataclass(frozen=True)
class EndedRun:
    """A job that succeeded: what it reported, and what its dataset holds."""

    report: Json
    summary: Json


def similar_runs(session: Session, owner_id: str, *, method: str, device: str) -> list[EndedRun]:
    """The owner's newest jobs that succeeded with this method, and asked for this device."""
    query = (
        select(Job.report, Dataset.summary)
        .join(Dataset, Dataset.id == Job.dataset_id)
        .where(
            Job.owner_id == owner_id,
            Job.status == Status.SUCCEEDED,
            Job.spec["method"].as_string() == method,
            Job.spec["device"].as_string() == device,
        )
        .order_by(Job.id.desc())
        .limit(_LOOKED_AT)
    )
    rows = session.execute(query)
    return [EndedRun(report, summary) for report, summary in rows if report and summary]
