"""What the processes of a job wrote: the end of an attempt's log, as plain text."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import PlainTextResponse

from app.access import needs
from app.deps import Asker, Door, JobId
from app.http.problem import Responses, problems
from core.accounts.scopes import Scope
from core.jobs import logs
from core.settings.units import KIB, MIB

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["events"], dependencies=[needs(Scope.JOBS_READ)])

USUAL_BYTES = 64 * KIB
MAX_BYTES = MIB

_NUMBER = {"type": "integer"}
_FOUND: Responses = {
    200: {
        "headers": {
            "X-Log-Attempt": {"description": "The attempt; 0 before the first.", "schema": _NUMBER},
            "X-Log-Bytes": {"description": "Bytes of all that it wrote.", "schema": _NUMBER},
        }
    }
}


@router.get(
    "/log",
    operation_id="get_log",
    summary="Read the end of a job's log",
    response_class=PlainTextResponse,
    responses=problems(401, 404, 422, 500, 503, besides=_FOUND),
)
def get_log(
    services: Door,
    caller: Asker,
    job_id: JobId,
    limit: Annotated[
        int, Query(alias="bytes", ge=1, le=MAX_BYTES, description="Most bytes of the answer.")
    ] = USUAL_BYTES,
    attempt: Annotated[
        int | None, Query(ge=1, lt=2**31, description="Which attempt; by default the latest.")
    ] = None,
) -> PlainTextResponse:
    """The last lines that the job's processes wrote, secrets hidden; while it runs some seconds old.

    It stays when the job is over. Empty while nothing was written.
    """
    with services.database.read() as session:
        end = logs.read(session, caller.owner_id, job_id, attempt=attempt, limit=limit)
    headers = {"X-Log-Attempt": str(end.attempt), "X-Log-Bytes": str(end.bytes)}
    return PlainTextResponse(end.text, headers=headers)
