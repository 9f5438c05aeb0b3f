"""How the models and the dataset of a claimed job become folders."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.artifacts.local import full_disk_reported
from core.artifacts.store import Store
from core.artifacts.tables import Artifact
from core.assets import repository as assets
from core.assets.files import FileRecord, HubReference
from core.assets.names import MODEL_FILES
from core.assets.tables import AssetStatus, Dataset, Model
from core.errors import NotFound, StoreUnavailable
from core.jobs.attempts import Claim

RESULT_MODEL = "model/"
"""Names of the files of a job's model begin with this among its artifacts."""

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Input:
    """A model or dataset that a job reads; with `hub` set, its files must be fetched first."""

    asset_id: str
    files: tuple[FileRecord, ...]
    hub: HubReference | None = None


@dataclass(frozen=True)
class Inputs:
    """What a job reads; `teacher` is None when the dense model teaches."""

    model: Input
    dataset: Input
    teacher: Input | None = None

    def __iter__(self) -> Iterator[Input]:
        """Everything that is there, each once: a model may teach itself."""
        found = (self.model, self.dataset, *([self.teacher] if self.teacher else []))
        return iter({one.asset_id: one for one in found}.values())


def find_inputs(session: Session, claim: Claim) -> Inputs:
    """The files of a claimed job's models and dataset; raises NotFound when one is gone."""
    dataset = assets.get(session, Dataset, claim.owner_id, claim.dataset_id)
    model = find_model(session, claim.owner_id, claim.model_id, claim.model_job_id)
    teacher = None
    if claim.teacher_id or claim.teacher_job_id:
        teacher = find_model(session, claim.owner_id, claim.teacher_id, claim.teacher_job_id)
    return Inputs(model, _asset(session, dataset), teacher)


def find_model(session: Session, owner_id: str, model_id: str | None, job_id: str | None) -> Input:
    """The files of a model by its id, or else of the result of a job; raises NotFound when it is gone."""
    if model_id is None:
        return _result(session, str(job_id))
    return _asset(session, assets.get(session, Model, owner_id, model_id))


def materialise(store: Store, files: Sequence[FileRecord], folder: Path) -> None:
    """Lay the files into a new folder by their server-made names: hard links where possible, else copies.

    Copies are checked against their hash. Raises NotFound, StorageFull, StoreUnavailable.
    """
    folder.mkdir(parents=True)
    for file in files:
        if file.sha256 is None:
            raise NotFound(f"{file.name} has not been fetched.")
        _lay(store, file.sha256, folder / file.name)


def _lay(store: Store, sha256: str, target: Path) -> None:
    source = store.path(sha256)
    if source is not None:
        try:
            target.hardlink_to(source)
        except OSError:  # another file system, or too many links
            pass
        else:
            return
    digest = hashlib.sha256()
    with store.open(sha256) as content, target.open("xb") as file:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            with full_disk_reported():
                file.write(chunk)
    if digest.hexdigest() != sha256:
        raise StoreUnavailable(f"The object {sha256} is damaged.", code="object_damaged")


def _asset(session: Session, asset: Model | Dataset) -> Input:
    files = tuple(
        FileRecord(file.name, file.bytes, file.sha256, file.hub_path)
        for file in assets.files_of(session, asset)
    )
    hub = None
    if asset.status == AssetStatus.PENDING:
        kind: Literal["model", "dataset"] = "model" if isinstance(asset, Model) else "dataset"
        hub = HubReference(kind, str(asset.hub_id), str(asset.hub_revision))
    return Input(asset.id, files, hub)


def _result(session: Session, job_id: str) -> Input:
    query = select(Artifact).where(Artifact.job_id == job_id, Artifact.name.startswith(RESULT_MODEL))
    found = [(artifact.name.removeprefix(RESULT_MODEL), artifact) for artifact in session.scalars(query)]
    files = tuple(
        FileRecord(name, file.bytes, file.sha256) for name, file in found if MODEL_FILES.fullmatch(name)
    )
    if not files:
        raise NotFound(f"The model of {job_id} is gone.")
    return Input(job_id, files)
