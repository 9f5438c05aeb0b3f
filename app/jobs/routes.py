"""Jobs: create, read, list, pause, resume, cancel, delete."""

from typing import Annotated
from zlib import crc32

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.convertors import Convertor, register_url_convertor

from app.access import needs
from app.deps import Asker, Door, IdempotencyKey, JobId, JsonBody
from app.http.conditional import matches, strong
from app.http.links import base_url
from app.http.pagination import Cursor, Limit, Listing, listing
from app.http.problem import Responses, problems
from app.jobs import create, views
from app.jobs.propose import propose
from app.jobs.request import JobRequest
from app.jobs.schemas import Choice, JobView
from app.services import Services
from core.accounts.scopes import Scope
from core.audit import log as audit
from core.jobs import repository
from core.jobs.forecast import Outlook
from core.jobs.states import TERMINAL, Status
from core.jobs.tables import Job


class _JobPath(Convertor[str]):
    """Any id but `plan`, which is an address of its own."""

    regex = "(?!plan$)[^/]+"

    def convert(self, value: str) -> str:
        return value


register_url_convertor("job", _JobPath())

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[needs(Scope.JOBS_READ, Scope.JOBS_WRITE)])

POLL_SECONDS = "2"
_RETRY_AFTER = {
    "Retry-After": {"description": "Seconds to wait before asking again.", "schema": {"type": "integer"}}
}
_ETAG = {"ETag": {"description": "Changes with the job.", "schema": {"type": "string"}}}
_LOCATION = {
    "Location": {"description": "Address of the job.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {"description": "`true`: a stored answer.", "schema": {"type": "string"}},
}
_STOPPING = {"application/json": {"schema": {"$ref": "#/components/schemas/JobView"}}}
_CREATED: Responses = {
    200: {"description": "`validate_only`: what the job would do.", "model": Choice},
    202: {"description": "It waits for a worker.", "model": JobView, "headers": _RETRY_AFTER | _LOCATION},
}
_FOUND: Responses = {
    200: {"headers": _RETRY_AFTER | _ETAG},
    304: {"description": "Not Modified", "headers": _RETRY_AFTER},
}
_CANCELED: Responses = {
    200: {"description": "The job is over, canceled or otherwise: a finish that came first stands."},
    202: {"description": "A worker is stopping it.", "content": _STOPPING, "headers": _RETRY_AFTER},
}


_PAUSED: Responses = {
    200: {"description": "The job is paused.", "headers": _RETRY_AFTER},
    202: {"description": "A worker is bringing it to rest.", "content": _STOPPING, "headers": _RETRY_AFTER},
}
_RESUMED: Responses = {200: {"description": "The job waits again, or runs.", "headers": _RETRY_AFTER}}


@router.post(
    "",
    status_code=202,
    operation_id="create_job",
    summary="Prune a model",
    response_model=JobView,
    dependencies=[JsonBody],
    responses=problems(400, 401, 404, 409, 413, 415, 422, 500, 502, 503, besides=_CREATED),
)
def create_job(
    request: Request,
    services: Door,
    caller: Asker,
    body: JobRequest,
    validate_only: Annotated[
        bool, Query(description="Check and plan only: 200 with the plan, and no job is made.")
    ] = False,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Check the request against model and data, plan it, and queue it; the answer states every choice made.

    What cannot be done is refused here, before the job runs, with the place in the request and the remedy.
    """
    base = base_url(request, services.settings)
    if validate_only:
        proposal = propose(services, caller, body)
        return JSONResponse(views.choice(proposal.spec, proposal.plan_json).model_dump(mode="json"))
    created = create.create(services, caller, body, idempotency_key, base)
    headers = {"Location": f"{base}/v1/jobs/{created.document['id']}", "Retry-After": POLL_SECONDS}
    if created.replayed:
        headers["Idempotency-Replayed"] = "true"
    return JSONResponse(created.document, 202, headers=headers)


@router.get(
    "",
    operation_id="list_jobs",
    summary="List jobs",
    responses=problems(401, 422, 500, 503),
)
def list_jobs(
    request: Request,
    services: Door,
    caller: Asker,
    cursor: Cursor,
    status: Annotated[Status | None, Query(description="Only jobs in this state.")] = None,
    model: Annotated[
        str | None,
        Query(
            pattern=r"^(mdl|job)_[0-9a-z]{26}$",
            description="Only jobs on this model, or on the result of this job.",
        ),
    ] = None,
    limit: Limit = 20,
) -> Listing[JobView]:
    """The caller's jobs, newest first."""
    base = base_url(request, services.settings)
    with services.database.read() as session:
        page = repository.list_jobs(
            session, caller.owner_id, status=status, model=model, cursor=cursor, limit=limit
        )
        outlooks = services.forecaster.outlooks(session, page.data)
    return listing(page, lambda job: views.job_view(job, outlooks[job.id], base))


@router.get(
    "/{job_id:job}",
    operation_id="get_job",
    summary="Get a job",
    response_model=JobView,
    responses=problems(401, 404, 422, 500, 503, besides=_FOUND),
)
def get_job(
    request: Request,
    services: Door,
    caller: Asker,
    job_id: JobId,
    if_none_match: Annotated[str | None, Header(description="An ETag; 304 while it is still right.")] = None,
) -> Response:
    """The job as it is now; Retry-After says when to ask again while it is not over."""
    with services.database.read() as session:
        job = repository.get(session, caller.owner_id, job_id)
        outlook = services.forecaster.outlook(session, job)
    headers = {"ETag": strong(f"{job.id}-{job.version}-{crc32(repr(outlook).encode()):x}")} | _retry(job)
    if matches(if_none_match, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return _reply(request, services, job, outlook, headers=headers)


@router.post(
    "/{job_id}/pause",
    operation_id="pause_job",
    summary="Pause a job",
    response_model=JobView,
    responses=problems(401, 404, 409, 422, 500, 503, besides=_PAUSED),
)
def pause_job(request: Request, services: Door, caller: Asker, job_id: JobId) -> Response:
    """Let a job rest and free its devices: at once when it waits, after a checkpoint when it runs.

    It keeps what it has done until it is resumed or canceled. Asking again changes nothing.
    """
    with services.database.write() as session:
        job = repository.pause(session, caller.owner_id, job_id)
        audit.record(session, caller, "job.pause", job_id)
    status = 200 if job.status == Status.PAUSED else 202
    return _reply(request, services, job, Outlook(), status=status, headers=_retry(job))


@router.post(
    "/{job_id}/resume",
    operation_id="resume_job",
    summary="Resume a paused job",
    response_model=JobView,
    responses=problems(401, 404, 409, 422, 500, 503, besides=_RESUMED),
)
def resume_job(request: Request, services: Door, caller: Asker, job_id: JobId) -> Response:
    """Queue a paused job again; it goes on from its last checkpoint. A job that is not paused is left as it is."""
    with services.database.write() as session:
        job = repository.resume(session, caller.owner_id, job_id)
        audit.record(session, caller, "job.resume", job_id)
        outlook = services.forecaster.outlook(session, job)
    if job.status == Status.QUEUED:
        services.doorbell.ring(job.queue)
    return _reply(request, services, job, outlook, headers=_retry(job))


@router.post(
    "/{job_id}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job",
    response_model=JobView,
    responses=problems(401, 404, 422, 500, 503, besides=_CANCELED),
)
def cancel_job(request: Request, services: Door, caller: Asker, job_id: JobId) -> Response:
    """Stop a job: at once when it waits, within seconds when it runs. Asking again changes nothing."""
    with services.database.write() as session:
        job = repository.cancel(session, caller.owner_id, job_id)
        audit.record(session, caller, "job.cancel", job_id)
    status = 200 if job.status in TERMINAL else 202
    return _reply(request, services, job, Outlook(), status=status, headers=_retry(job))


@router.delete(
    "/{job_id:job}",
    status_code=204,
    operation_id="delete_job",
    summary="Delete a job and its results",
    responses=problems(401, 404, 409, 422, 500, 503),
)
def delete_job(services: Door, caller: Asker, job_id: JobId) -> None:
    """Forget a job that is over, its events and its artifacts."""
    with services.database.write() as session:
        repository.delete(session, caller.owner_id, job_id)
        audit.record(session, caller, "job.delete", job_id)


def _retry(job: Job) -> dict[str, str]:
    return {} if job.status in TERMINAL else {"Retry-After": POLL_SECONDS}


def _reply(
    request: Request,
    services: Services,
    job: Job,
    outlook: Outlook,
    *,
    status: int = 200,
    headers: dict[str, str],
) -> JSONResponse:
    view = views.job_view(job, outlook, base_url(request, services.settings))
    return JSONResponse(view.model_dump(mode="json"), status, headers=headers)
