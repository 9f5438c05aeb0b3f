"""Models: upload file by file, or name one of the hub."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.access import needs
from app.assets import RAW_BODY, UPLOADED
from app.deps import Asker, Door, JsonBody, ModelId
from app.http.conditional import strong
from app.http.links import base_url
from app.http.pagination import Cursor, Limit, Listing, listing
from app.http.problem import problems
from app.hub import resolve_model
from app.models.complete import complete
from app.models.schemas import ModelView, NewModel
from app.uploads.body import PromisedSha256
from app.uploads.files import take_file
from core.accounts import quotas
from core.accounts.scopes import Scope
from core.assets import repository
from core.assets.tables import Model
from core.audit import log as audit

router = APIRouter(
    prefix="/v1/models", tags=["models"], dependencies=[needs(Scope.MODELS_READ, Scope.MODELS_WRITE)]
)


@router.post(
    "",
    status_code=201,
    operation_id="create_model",
    summary="Add a model",
    dependencies=[JsonBody],
    responses=problems(400, 401, 413, 415, 422, 500, 502, 503),
)
def create_model(
    request: Request, response: Response, services: Door, caller: Asker, body: NewModel
) -> ModelView:
    """With a name: then PUT its files and complete it. With `hub`: its commit is stored now, its files are
    fetched when the first job uses them.
    """
    info = None
    if body.hub is not None:
        info = resolve_model(services, body.hub.id, body.hub.revision, "/hub")
    with services.database.write() as session:
        if info is None:
            model = repository.create_model(session, owner_id=caller.owner_id, name=body.name or "")
        else:
            model = repository.hub_model(session, caller.owner_id, info)
            quotas.check_stored(session, caller.owner_id, services.quotas)
        audit.record(session, caller, "model.create", model.id)
        view = ModelView.of(model, repository.files_of(session, model))
    response.headers["Location"] = f"{base_url(request, services.settings)}/v1/models/{model.id}"
    return view


@router.get("", operation_id="list_models", summary="List models", responses=problems(401, 422, 500, 503))
def list_models(services: Door, caller: Asker, cursor: Cursor, limit: Limit = 20) -> Listing[ModelView]:
    """The caller's models, newest first."""
    with services.database.read() as session:
        page = repository.list_assets(session, Model, caller.owner_id, cursor=cursor, limit=limit)
        return listing(page, lambda model: ModelView.of(model, repository.files_of(session, model)))


@router.get(
    "/{model_id}",
    operation_id="get_model",
    summary="Get a model",
    responses=problems(401, 404, 422, 500, 503),
)
def get_model(services: Door, caller: Asker, model_id: ModelId) -> ModelView:
    """The model and its files."""
    with services.database.read() as session:
        model = repository.get(session, Model, caller.owner_id, model_id)
        return ModelView.of(model, repository.files_of(session, model))


@router.put(
    "/{model_id}/files/{name}",
    status_code=204,
    operation_id="upload_model_file",
    summary="Upload one file of a model",
    openapi_extra=RAW_BODY,
    responses=problems(400, 401, 404, 408, 409, 413, 422, 500, 503, 507, besides=UPLOADED),
)
async def upload_model_file(
    request: Request,
    services: Door,
    caller: Asker,
    model_id: ModelId,
    name: Annotated[str, Path(examples=["model.safetensors"], description="As Hugging Face names it.")],
    promised: PromisedSha256,
) -> Response:
    """The raw bytes of a file; weights as safetensors only. A second upload of a name replaces the first."""
    stored = await take_file(request, services, Model, caller, model_id, name, sha256=promised)
    return Response(status_code=204, headers={"ETag": strong(stored.sha256)})


@router.post(
    "/{model_id}/complete",
    operation_id="complete_model",
    summary="Close the upload of a model",
    responses=problems(401, 404, 409, 422, 500, 503),
)
def complete_model(services: Door, caller: Asker, model_id: ModelId) -> ModelView:
    """Check that the files are one whole model of a known architecture; then it can be used."""
    return complete(services, caller, model_id)


@router.delete(
    "/{model_id}",
    status_code=204,
    operation_id="delete_model",
    summary="Delete a model",
    responses=problems(401, 404, 409, 422, 500, 503),
)
def delete_model(services: Door, caller: Asker, model_id: ModelId) -> None:
    """Forget the model; 409 while a job that is not over uses it."""
    with services.database.write() as session:
        repository.delete(session, Model, caller.owner_id, model_id)
        audit.record(session, caller, "model.delete", model_id)
