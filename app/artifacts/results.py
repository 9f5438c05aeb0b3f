"""The result of a job that has one."""

from app.services import Services
from core.accounts.repository import Caller
from core.artifacts import repository
from core.artifacts.tables import Artifact
from core.errors import Conflict, NotReady
from core.jobs import repository as jobs
from core.jobs.states import ACTIVE, Status
from core.jobs.tables import Job


def of_succeeded(services: Services, caller: Caller, job_id: str) -> tuple[Job, list[Artifact]]:
    """The caller's job and the files of its result; raises NotFound, NotReady, or Conflict `no_result`."""
    with services.database.read() as session:
        job = jobs.get(session, caller.owner_id, job_id)
        if job.status in ACTIVE:
            raise NotReady(f"{job_id} is {job.status}; its result is there when it has succeeded.")
        if job.status != Status.SUCCEEDED:
            raise Conflict(f"{job_id} {job.status}; it has no result.", code="no_result")
        return job, repository.list_artifacts(session, job)
