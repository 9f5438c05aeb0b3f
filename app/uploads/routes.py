"""Uploads in parts: declare a file, send its parts in any order, put it together."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response

from app.access import READING, any_key, require_scope
from app.assets import RAW_BODY, UPLOADED
from app.deps import Asker, Door, JsonBody, UploadId
from app.http.conditional import strong
from app.http.links import base_url
from app.http.pagination import Cursor, Limit, Listing, listing
from app.http.problem import problems
from app.uploads import parts
from app.uploads.body import PromisedSha256
from app.uploads.files import check_name, limits_of
from app.uploads.schemas import NewUpload, UploadView
from core.accounts import quotas
from core.accounts.scopes import Scope
from core.assets.tables import Dataset, Model
from core.audit import log as audit
from core.errors import TooLarge
from core.uploads import repository
from core.uploads.repository import Kind

router = APIRouter(prefix="/v1/uploads", tags=["uploads"], dependencies=[any_key])

_READ: dict[Kind, Scope] = {Model: Scope.MODELS_READ, Dataset: Scope.DATASETS_READ}
_WRITE: dict[Kind, Scope] = {Model: Scope.MODELS_WRITE, Dataset: Scope.DATASETS_WRITE}


def _may_use(request: Request, services: Door, caller: Asker, upload_id: UploadId) -> None:
    """Refuse a key that may not read, or not write, what the upload is for."""
    with services.database.read() as session:
        kind, _ = repository.asset_of(repository.get(session, caller.owner_id, upload_id))
    scopes = _READ if request.method in READING else _WRITE
    require_scope(request, services, caller, scopes[kind])


_ALLOWED = Depends(_may_use)


@router.post(
    "",
    status_code=201,
    operation_id="create_upload",
    summary="Declare a file that comes in parts",
    dependencies=[JsonBody],
    responses=problems(
        400,
        401,
        403,
        404,
        409,
        413,
        415,
        422,
        500,
        503,
        besides={200: {"description": "Declared before.", "model": UploadView}},
    ),
)
def create_upload(
    request: Request, response: Response, services: Door, caller: Asker, body: NewUpload
) -> UploadView:
    """The same declaration again finds the upload with the parts that have come; only the others are to be sent."""
    file = body.declaration()
    require_scope(request, services, caller, _WRITE[file.kind])
    check_name(file.kind, file.name)
    limits = limits_of(services.settings, file.kind)
    if file.bytes > limits.file_bytes:
        raise TooLarge(f"{file.name} may have at most {limits.file_bytes:,} bytes.", param="/bytes")
    with services.database.write() as session:
        quotas.hold(session, caller.owner_id)
        upload, new = repository.declare(
            session,
            caller.owner_id,
            file,
            part_bytes=services.settings.upload_part_bytes,
            max_bytes=limits.total_bytes,
        )
        quotas.check_stored(session, caller.owner_id, services.quotas)
        if new:
            audit.record(session, caller, "upload.create", upload.id)
        view = UploadView.of(upload, repository.parts_of(session, upload))
    response.status_code = 201 if new else 200
    response.headers["Location"] = f"{base_url(request, services.settings)}/v1/uploads/{upload.id}"
    return view


@router.get(
    "", operation_id="list_uploads", summary="List uploads", responses=problems(401, 403, 422, 500, 503)
)
def list_uploads(
    request: Request, services: Door, caller: Asker, cursor: Cursor, limit: Limit = 20
) -> Listing[UploadView]:
    """The caller's uploads in parts, newest first; gone with the model or dataset that they are for."""
    for scope in _READ.values():
        require_scope(request, services, caller, scope)
    with services.database.read() as session:
        page = repository.list_uploads(session, caller.owner_id, cursor=cursor, limit=limit)
        return listing(page, lambda upload: UploadView.of(upload, repository.parts_of(session, upload)))


@router.get(
    "/{upload_id}",
    operation_id="get_upload",
    summary="Get an upload",
    dependencies=[_ALLOWED],
    responses=problems(401, 403, 404, 422, 500, 503),
)
def get_upload(services: Door, caller: Asker, upload_id: UploadId) -> UploadView:
    """The upload and the parts that have come."""
    with services.database.read() as session:
        upload = repository.get(session, caller.owner_id, upload_id)
        return UploadView.of(upload, repository.parts_of(session, upload))


@router.put(
    "/{upload_id}/parts/{number}",
    status_code=204,
    operation_id="upload_part",
    summary="Upload one part",
    dependencies=[_ALLOWED],
    openapi_extra=RAW_BODY,
    responses=problems(400, 401, 403, 404, 408, 409, 413, 422, 500, 503, 507, besides=UPLOADED),
)
async def upload_part(
    request: Request,
    services: Door,
    caller: Asker,
    upload_id: UploadId,
    number: Annotated[int, Path(ge=1, le=2**31 - 1, description="1 to `part_count`, in any order.")],
    promised: PromisedSha256,
) -> Response:
    """The raw bytes of a part. The same bytes may be sent again; others are refused once a part is there."""
    part = await parts.take_part(request, services, caller.owner_id, upload_id, number, sha256=promised)
    return Response(status_code=204, headers={"ETag": strong(part.sha256)})


@router.post(
    "/{upload_id}/complete",
    operation_id="complete_upload",
    summary="Put the parts together",
    dependencies=[_ALLOWED],
    responses=problems(401, 403, 404, 409, 413, 422, 500, 503, 507),
)
async def complete_upload(services: Door, caller: Asker, upload_id: UploadId) -> UploadView:
    """Make the file one of its model or dataset, in place of one of the same name; it may be repeated."""
    return UploadView.of(await parts.complete(services, caller, upload_id), [])


@router.delete(
    "/{upload_id}",
    status_code=204,
    operation_id="delete_upload",
    summary="Delete an upload",
    dependencies=[_ALLOWED],
    responses=problems(401, 403, 404, 422, 500, 503),
)
def delete_upload(services: Door, caller: Asker, upload_id: UploadId) -> None:
    """Forget the upload and its parts; a file that it has become stays."""
    parts.discard(services, caller, upload_id)
