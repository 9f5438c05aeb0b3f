"""The results of jobs in the database."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.artifacts.tables import Artifact
from core.errors import NotFound
from core.ids import new_id
from core.jobs.tables import Job
from core.signing.tables import Signature


@dataclass(frozen=True)
class ArtifactRecord:
    """A file of a result that is in the store already, by its name there such as `model/config.json`."""

    name: str
    bytes: int
    sha256: str
    media_type: str


def publish(
    session: Session, job_id: str, attempt: int, records: Iterable[ArtifactRecord], at: datetime
) -> None:
    """Name the files of a result, which are in the store already, and ask for its signature."""
    for record in records:
        session.add(
            Artifact(
                id=new_id("art"),
                job_id=job_id,
                attempt=attempt,
                name=record.name,
                bytes=record.bytes,
                sha256=record.sha256,
                media_type=record.media_type,
                created_at=at,
            )
        )
    session.add(Signature(job_id=job_id))


def list_artifacts(session: Session, job: Job) -> list[Artifact]:
    """The files of a job's result by name; empty until it has succeeded."""
    return list(session.scalars(select(Artifact).where(Artifact.job_id == job.id).order_by(Artifact.name)))


def get(session: Session, owner_id: str, artifact_id: str) -> Artifact:
    """A file of one of the owner's results; raises NotFound."""
    query = select(Artifact).join(Job, Job.id == Artifact.job_id)
    artifact = session.scalars(
        query.where(Artifact.id == artifact_id, Job.owner_id == owner_id)
    ).one_or_none()
    if artifact is None:
        raise NotFound(f"There is no artifact {artifact_id}.")
    return artifact
