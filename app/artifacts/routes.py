"""Results of jobs: the list, each file, and the model as one archive."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from app.access import needs
from app.artifacts.archive import Archive, Member
from app.artifacts.results import of_succeeded
from app.deps import ArtifactId, Asker, Door, JobId
from app.http.conditional import matches, strong
from app.http.content import Content, attachment, content_response, safe_name
from app.http.envelope import is_head
from app.http.links import base_url
from app.http.problem import Problem, problems
from app.jobs.schemas import ArtifactList
from app.jobs.views import artifact_view
from core.accounts.scopes import Scope
from core.artifacts import repository

router = APIRouter(tags=["artifacts"], dependencies=[needs(Scope.ARTIFACTS_READ)])

MODEL_FOLDER = "model/"
_TAR = "application/x-tar"
_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}


@router.get(
    "/v1/jobs/{job_id}/artifacts",
    operation_id="list_artifacts",
    summary="List the files of a result",
    responses=problems(401, 404, 409, 422, 500, 503),
)
def list_artifacts(request: Request, services: Door, caller: Asker, job_id: JobId) -> ArtifactList:
    """Every file with its size and SHA-256; 409 `not_ready` while the job is not over."""
    base = base_url(request, services.settings)
    _, found = of_succeeded(services, caller, job_id)
    return ArtifactList(data=[artifact_view(artifact, base) for artifact in found])


@router.get(
    "/v1/jobs/{job_id}/archive",
    operation_id="download_archive",
    summary="Download the model as one archive",
    response_class=StreamingResponse,
    responses=problems(
        401,
        404,
        409,
        422,
        500,
        503,
        besides={
            200: {
                "description": "A tar of the folder `model/`.",
                "content": {_TAR: _BYTES},
            },
            304: {"description": "Not Modified"},
        },
    ),
)
def download_archive(request: Request, services: Door, caller: Asker, job_id: JobId) -> Response:
    """The model's folder as a tar, made while it is sent; its ETag follows from the hashes of the files."""
    _, found = of_succeeded(services, caller, job_id)
    members = [
        Member(artifact.name, artifact.bytes, artifact.sha256)
        for artifact in found
        if artifact.name.startswith(MODEL_FOLDER)
    ]
    archive = Archive(members)
    etag = strong(archive.digest)
    headers = {"ETag": etag, "Accept-Ranges": "none"} | attachment(f"{job_id}-model.tar")
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    headers["Content-Length"] = str(archive.size)
    if is_head(request.scope):
        return Response(headers=headers, media_type=_TAR)
    return StreamingResponse(archive.stream(services.store.open), headers=headers, media_type=_TAR)


@router.get(
    "/v1/artifacts/{artifact_id}/content",
    operation_id="download_artifact",
    summary="Download a file of a result",
    response_class=StreamingResponse,
    responses=problems(
        401,
        404,
        410,
        416,
        422,
        500,
        503,
        besides={
            200: {"description": "The file.", "content": {"application/octet-stream": _BYTES}},
            206: {"description": "The range asked for.", "content": {"application/octet-stream": _BYTES}},
            302: {"description": "The same in S3, for five minutes; send no API key there."},
            304: {"description": "Not Modified"},
        },
    ),
)
def download_artifact(
    request: Request,
    services: Door,
    caller: Asker,
    artifact_id: ArtifactId,
) -> Response:
    """The bytes, whole or one range; the ETag is their SHA-256, so a broken download can go on safely.

    Where they lie in S3 the answer is a redirect, which is signed for five minutes and takes `Range`.
    """
    with services.database.read() as session:
        artifact = repository.get(session, caller.owner_id, artifact_id)
    if not services.store.exists(artifact.sha256):
        raise Problem(410, "gone", f"The bytes of {artifact_id} are no longer in the store.")
    store, filename = services.store, safe_name(artifact.name.rpartition("/")[2])
    content = Content(
        sha256=artifact.sha256,
        bytes=artifact.bytes,
        media_type=artifact.media_type,
        filename=filename,
        open=partial(store.open, artifact.sha256),
        elsewhere=partial(
            store.download_url, artifact.sha256, filename=filename, media_type=artifact.media_type
        ),
    )
    return content_response(request, content)
