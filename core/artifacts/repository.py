"""The results of jobs in the database."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.artifacts.tables import Artifact
from core.errors import NotFound
from core.jobs.tables import Job


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
