"""Datasets: upload file by file, or name one of the hub."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.access import needs
from app.assets import RAW_BODY, UPLOADED
from app.datasets.complete import complete
from app.datasets.schemas import Completion, DatasetView, NewDataset
from app.deps import Asker, DatasetId, Door, JsonBody
from app.http.conditional import strong
from app.http.links import base_url
from app.http.pagination import Cursor, Limit, Listing, listing
from app.http.problem import problems
from app.hub import resolve_dataset
from app.uploads.body import PromisedSha256
from app.uploads.files import take_file
from core.accounts import quotas
from core.accounts.scopes import Scope
from core.assets import repository
from core.assets.tables import Dataset
from core.audit import log as audit
from pruning.spec import Columns

router = APIRouter(
    prefix="/v1/datasets", tags=["datasets"], dependencies=[needs(Scope.DATASETS_READ, Scope.DATASETS_WRITE)]
)


@router.post(
    "",
    status_code=201,
    operation_id="create_dataset",
    summary="Add a dataset",
    dependencies=[JsonBody],
    responses=problems(400, 401, 413, 415, 422, 500, 502, 503),
)
def create_dataset(
    request: Request, response: Response, services: Door, caller: Asker, body: NewDataset
) -> DatasetView:
    """With a name: then PUT its files and complete it. With `hub`: its commit is stored now, its files are
    fetched when the first job uses them.
    """
    info = None
    if body.hub is not None:
        info = resolve_dataset(services, body.hub.id, body.hub.config, body.hub.revision, "/hub")
    with services.database.write() as session:
        if info is None:
            dataset = repository.create_dataset(session, owner_id=caller.owner_id, name=body.name or "")
        else:
            dataset = repository.hub_dataset(session, caller.owner_id, info)
            quotas.check_stored(session, caller.owner_id, services.quotas)
        audit.record(session, caller, "dataset.create", dataset.id)
        view = DatasetView.of(dataset, repository.files_of(session, dataset))
    response.headers["Location"] = f"{base_url(request, services.settings)}/v1/datasets/{dataset.id}"
    return view


@router.get("", operation_id="list_datasets", summary="List datasets", responses=problems(401, 422, 500, 503))
def list_datasets(services: Door, caller: Asker, cursor: Cursor, limit: Limit = 20) -> Listing[DatasetView]:
    """The caller's datasets, newest first."""
    with services.database.read() as session:
        page = repository.list_assets(session, Dataset, caller.owner_id, cursor=cursor, limit=limit)
        return listing(page, lambda dataset: DatasetView.of(dataset, repository.files_of(session, dataset)))


@router.get(
    "/{dataset_id}",
    operation_id="get_dataset",
    summary="Get a dataset",
    responses=problems(401, 404, 422, 500, 503),
)
def get_dataset(services: Door, caller: Asker, dataset_id: DatasetId) -> DatasetView:
    """The dataset and its files."""
    with services.database.read() as session:
        dataset = repository.get(session, Dataset, caller.owner_id, dataset_id)
        return DatasetView.of(dataset, repository.files_of(session, dataset))


@router.put(
    "/{dataset_id}/files/{name}",
    status_code=204,
    operation_id="upload_dataset_file",
    summary="Upload one file of a dataset",
    openapi_extra=RAW_BODY,
    responses=problems(400, 401, 404, 408, 409, 413, 422, 500, 503, 507, besides=UPLOADED),
)
async def upload_dataset_file(
    request: Request,
    services: Door,
    caller: Asker,
    dataset_id: DatasetId,
    name: Annotated[
        str,
        Path(examples=["train.jsonl"], description="train, validation or test as .jsonl, .csv or .parquet."),
    ],
    promised: PromisedSha256,
) -> Response:
    """The raw bytes of a file. A second upload of a name replaces the first."""
    stored = await take_file(request, services, Dataset, caller, dataset_id, name, sha256=promised)
    return Response(status_code=204, headers={"ETag": strong(stored.sha256)})


@router.post(
    "/{dataset_id}/complete",
    operation_id="complete_dataset",
    summary="Close the upload of a dataset",
    responses=problems(400, 401, 404, 409, 413, 422, 500, 503),
)
def complete_dataset(
    services: Door, caller: Asker, dataset_id: DatasetId, body: Completion | None = None
) -> DatasetView:
    """Check every row and say what was found; name the columns when their names are not usual ones."""
    columns = Columns() if body is None else body.columns
    return complete(services, caller, dataset_id, columns)


@router.delete(
    "/{dataset_id}",
    status_code=204,
    operation_id="delete_dataset",
    summary="Delete a dataset",
    responses=problems(401, 404, 409, 422, 500, 503),
)
def delete_dataset(services: Door, caller: Asker, dataset_id: DatasetId) -> None:
    """Forget the dataset; 409 while a job that is not over uses it."""
    with services.database.write() as session:
        repository.delete(session, Dataset, caller.owner_id, dataset_id)
        audit.record(session, caller, "dataset.delete", dataset_id)
