"""What a request's model and dataset stand for: an upload, a repository of the hub, or an earlier result.

Each is found before anything is written, so that `validate_only` and a refused request leave nothing behind.
"""

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from app.hub import resolve_dataset, resolve_model
from app.jobs.request import HubDataset, HubModel, JobModel
from app.services import Services
from core.artifacts.repository import list_artifacts
from core.assets import repository as assets
from core.assets.files import HubDatasetInfo, HubModelInfo
from core.assets.tables import AssetStatus, Dataset, Model
from core.errors import InvalidRequest, NotReady
from core.inputs import RESULT_MODEL
from core.jobs import repository as jobs
from core.jobs.states import ACTIVE, Status
from pruning.errors import InvalidModel

Json = dict[str, Any]


@dataclass(frozen=True)
class FoundModel:
    """A model's config.json, how the reply names the model, and exactly one of id, job and hub.

    `parameters` is how many its files hold, where they were looked at.
    """

    config: Json
    shown: Json
    model_id: str | None = None
    job_id: str | None = None
    parameters: int | None = None
    hub: HubModelInfo | None = None

    def stored(self, session: Session, owner_id: str) -> str | None:
        """The id of the model's row, made at the first use of a commit of the hub; None for a result."""
        if self.hub is None:
            return self.model_id
        return assets.hub_model(session, owner_id, self.hub).id


@dataclass(frozen=True)
class FoundDataset:
    """How the reply names a dataset, its hub repository, and its row; only a first use of the hub has none yet."""

    shown: Json
    row: Dataset | None = None
    hub: HubDatasetInfo | None = None

    def stored(self, session: Session, owner_id: str) -> str:
        """The id of the dataset's row, made if it is the first use of this commit of the hub."""
        if self.row is not None:
            return self.row.id
        assert self.hub is not None  # noqa: S101 - one of the two is always there
        return assets.hub_dataset(session, owner_id, self.hub).id


def find_model(
    services: Services, owner_id: str, reference: str | HubModel | JobModel, pointer: str
) -> FoundModel:
    """A model of a request, which names it at `pointer`.

    Raises NotFound, NotReady, InvalidRequest, InvalidModel or HubUnavailable.
    """
    if isinstance(reference, JobModel):
        return _of_job(services, owner_id, reference.job, f"{pointer}/job")
    if isinstance(reference, HubModel):
        hub = resolve_model(services, reference.hub, reference.revision, pointer)
        return FoundModel(hub.config, {"hub": reference.hub, "revision": hub.revision}, hub=hub)
    with services.database.read() as session:
        model = assets.get(session, Model, owner_id, reference)
    _require_complete(model, pointer)
    shown = {"id": model.id}
    return FoundModel(model.config or {}, shown, model_id=model.id, parameters=model.parameters)


def find_dataset(services: Services, owner_id: str, reference: str | HubDataset) -> FoundDataset:
    """The dataset of a request; raises NotFound, InvalidRequest or HubUnavailable."""
    if isinstance(reference, HubDataset):
        hub = resolve_dataset(services, reference.hub, reference.config, reference.revision, "/dataset")
        shown = {"hub": reference.hub, "config": reference.config, "revision": hub.revision}
        with services.database.read() as session:
            known = assets.find_hub_dataset(session, owner_id, hub)
        return FoundDataset(shown, row=known, hub=hub)
    with services.database.read() as session:
        row = assets.get(session, Dataset, owner_id, reference)
    _require_complete(row, "/dataset")
    return FoundDataset({"id": row.id}, row=row)


def _require_complete(asset: Model | Dataset, pointer: str) -> None:
    if asset.status == AssetStatus.UPLOADING:
        message = f"The upload of {asset.id} is not complete; complete it first."
        raise InvalidRequest(message, param=pointer, code="not_complete")


def _of_job(services: Services, owner_id: str, job_id: str, pointer: str) -> FoundModel:
    with services.database.read() as session:
        job = jobs.get(session, owner_id, job_id)
        if job.status in ACTIVE:
            raise NotReady(f"{job_id} is {job.status}; its model is not there yet.", param=pointer)
        found = {artifact.name: artifact for artifact in list_artifacts(session, job)}
    config_file = found.get(f"{RESULT_MODEL}config.json")
    if job.status != Status.SUCCEEDED or config_file is None:
        raise InvalidRequest(f"{job_id} {job.status}; it has no model.", param=pointer, code="no_model")
    with services.store.open(config_file.sha256) as file:
        config: Json = json.load(file)
    if "auto_map" in config or "layer_sizes" in config:
        raise InvalidModel(
            f"The layers of the result of {job_id} differ in size, and such a model cannot be used again.",
            param=pointer,
            remedy="Use its original model, or make it with allocation native.",
            code="uneven_model",
        )
    parameters = ((job.report or {}).get("after") or {}).get("parameters")
    return FoundModel(config, {"job": job_id}, job_id=job_id, parameters=parameters)
