"""Models and datasets in the database; every function takes the owner, and another's asset is not found."""

from collections.abc import Sequence
from typing import TypeVar

from sqlalchemy import delete as sql_delete
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from core.assets.files import FileRecord, HubDatasetInfo, HubModelInfo
from core.assets.tables import AssetFile, AssetStatus, Dataset, Model
from core.clock import now
from core.db.base import Json
from core.db.pages import Page, paginate
from core.errors import Conflict, InvalidRequest, NotFound, TooLarge
from core.ids import new_id
from core.jobs.states import ACTIVE
from core.jobs.tables import Job

Asset = TypeVar("Asset", bound=Model | Dataset)


def create_model(session: Session, *, owner_id: str, name: str) -> Model:
    """A model that takes files."""
    model = Model(
        id=new_id("mdl"),
        owner_id=owner_id,
        name=name,
        source="upload",
        status=AssetStatus.UPLOADING,
        created_at=now(session),
    )
    return _added(session, model)


def create_dataset(session: Session, *, owner_id: str, name: str) -> Dataset:
    """A dataset that takes files."""
    dataset = Dataset(
        id=new_id("dst"),
        owner_id=owner_id,
        name=name,
        source="upload",
        status=AssetStatus.UPLOADING,
        created_at=now(session),
    )
    return _added(session, dataset)


def hub_model(session: Session, owner_id: str, found: HubModelInfo) -> Model:
    """The owner's model of this commit of the hub, made when it is the first use of it."""
    same = (Model.hub_id == found.hub_id, Model.hub_revision == found.revision)
    known = session.scalars(select(Model).where(Model.owner_id == owner_id, *same).limit(1)).one_or_none()
    if known is not None:
        return known
    model = Model(
        id=new_id("mdl"),
        owner_id=owner_id,
        name=found.hub_id,
        source="hub",
        status=AssetStatus.PENDING,
        hub_id=found.hub_id,
        hub_revision=found.revision,
        config=found.config,
        model_type=found.model_type,
        bytes=sum(file.bytes for file in found.files),
        created_at=now(session),
    )
    return _added(session, model, found.files)


def find_hub_dataset(session: Session, owner_id: str, found: HubDatasetInfo) -> Dataset | None:
    """The owner's dataset of this commit of the hub, if there is one."""
    same = (
        Dataset.hub_id == found.hub_id,
        Dataset.hub_revision == found.revision,
        Dataset.hub_config.is_not_distinct_from(found.config),
    )
    return session.scalars(select(Dataset).where(Dataset.owner_id == owner_id, *same).limit(1)).one_or_none()


def hub_dataset(session: Session, owner_id: str, found: HubDatasetInfo) -> Dataset:
    """The owner's dataset of this commit of the hub, made when it is the first use of it."""
    known = find_hub_dataset(session, owner_id, found)
    if known is not None:
        return known
    dataset = Dataset(
        id=new_id("dst"),
        owner_id=owner_id,
        name=found.hub_id,
        source="hub",
        status=AssetStatus.PENDING,
        hub_id=found.hub_id,
        hub_config=found.config,
        hub_revision=found.revision,
        bytes=sum(file.bytes for file in found.files),
        created_at=now(session),
    )
    return _added(session, dataset, found.files)


def get(session: Session, kind: type[Asset], owner_id: str, asset_id: str) -> Asset:
    """The owner's asset; raises NotFound."""
    asset = session.scalars(select(kind).where(kind.id == asset_id, kind.owner_id == owner_id)).one_or_none()
    if asset is None:
        raise NotFound(f"There is no {kind.__name__.lower()} {asset_id}.")
    return asset


def list_assets(
    session: Session, kind: type[Asset], owner_id: str, *, cursor: str | None = None, limit: int = 20
) -> Page[Asset]:
    """The owner's assets, newest first."""
    return paginate(
        session, select(kind).where(kind.owner_id == owner_id), kind.id, cursor=cursor, limit=limit
    )


def files_of(session: Session, asset: Model | Dataset) -> list[AssetFile]:
    """The files of an asset by name."""
    return list(
        session.scalars(select(AssetFile).where(AssetFile.asset_id == asset.id).order_by(AssetFile.name))
    )


def add_file(
    session: Session, kind: type[Asset], owner_id: str, asset_id: str, file: FileRecord, *, max_bytes: int
) -> None:
    """Name a stored object as a file of an asset; a second one of the same name replaces the first.

    Raises NotFound, Conflict `already_complete`, and TooLarge when all files together exceed `max_bytes`.
    """
    asset = lock_uploading(session, kind, owner_id, asset_id)
    total = select(func.coalesce(func.sum(AssetFile.bytes), 0)).where(
        AssetFile.asset_id == asset_id, AssetFile.name != file.name
    )
    asset.bytes = session.scalars(total).one() + file.bytes
    if asset.bytes > max_bytes:
        raise TooLarge(f"The files of {asset_id} together are larger than {max_bytes:,} bytes.")
    session.merge(AssetFile(asset_id=asset_id, name=file.name, bytes=file.bytes, sha256=file.sha256))


def complete_model(
    session: Session,
    owner_id: str,
    model_id: str,
    *,
    files: Sequence[FileRecord],
    config: Json,
    model_type: str,
    parameters: int,
    digest: str,
) -> Model:
    """Close an upload with what was found in exactly these files.

    Raises NotFound, Conflict `already_complete`, or Conflict `changed` when it has other files by now.
    """
    model = lock_uploading(session, Model, owner_id, model_id)
    _require_unchanged(session, model, files)
    model.status, model.config, model.model_type, model.parameters, model.digest = (
        AssetStatus.READY,
        config,
        model_type,
        parameters,
        digest,
    )
    return model


def complete_dataset(
    session: Session,
    owner_id: str,
    dataset_id: str,
    *,
    files: Sequence[FileRecord],
    summary: Json,
    digest: str,
) -> Dataset:
    """Close an upload with what was found in exactly these files; raises as `complete_model` does."""
    dataset = lock_uploading(session, Dataset, owner_id, dataset_id)
    _require_unchanged(session, dataset, files)
    dataset.status, dataset.summary, dataset.digest = AssetStatus.READY, summary, digest
    return dataset


def delete(session: Session, kind: type[Asset], owner_id: str, asset_id: str) -> None:
    """Forget an asset; raises NotFound, or Conflict `in_use` while a job that is not over uses it."""
    asset = _locked(session, kind, owner_id, asset_id)
    used = (
        select(Job.id)
        .where(
            or_(Job.model_id == asset_id, Job.teacher_id == asset_id, Job.dataset_id == asset_id),
            Job.status.in_(ACTIVE),
        )
        .limit(1)
    )
    if job_id := session.scalars(used).one_or_none():
        raise Conflict(f"{asset_id} is used by {job_id}, which is not over yet.", code="in_use")
    session.execute(sql_delete(AssetFile).where(AssetFile.asset_id == asset_id))
    session.delete(asset)


def require_usable(session: Session, kind: type[Asset], owner_id: str, asset_id: str, pointer: str) -> Asset:
    """The owner's asset, safe from deletion until this transaction ends; `pointer` is its place in the request.

    Raises NotFound, or InvalidRequest `not_complete` while it is being uploaded.
    """
    asset = _locked(session, kind, owner_id, asset_id)
    if asset.status == AssetStatus.UPLOADING:
        raise InvalidRequest(f"The upload of {asset_id} is not complete.", param=pointer, code="not_complete")
    return asset


def lock_uploading(session: Session, kind: type[Asset], owner_id: str, asset_id: str) -> Asset:
    """The owner's asset, locked, which takes files; raises NotFound, or Conflict `already_complete`."""
    asset = _locked(session, kind, owner_id, asset_id)
    if asset.status != AssetStatus.UPLOADING:
        raise Conflict(f"{asset_id} is already complete.", code="already_complete")
    return asset


def _added(session: Session, asset: Asset, files: Sequence[FileRecord] = ()) -> Asset:
    session.add(asset)
    for file in files:
        session.add(
            AssetFile(
                asset_id=asset.id,
                name=file.name,
                bytes=file.bytes,
                sha256=file.sha256,
                hub_path=file.hub_path,
            )
        )
    session.flush()
    return asset


def _locked(session: Session, kind: type[Asset], owner_id: str, asset_id: str) -> Asset:
    query = select(kind).where(kind.id == asset_id, kind.owner_id == owner_id)
    asset = session.scalars(query.with_for_update().execution_options(populate_existing=True)).one_or_none()
    if asset is None:
        raise NotFound(f"There is no {kind.__name__.lower()} {asset_id}.")
    return asset


def _require_unchanged(session: Session, asset: Model | Dataset, files: Sequence[FileRecord]) -> None:
    stored = {(file.name, file.sha256) for file in files_of(session, asset)}
    if stored != {(file.name, file.sha256) for file in files}:
        raise Conflict(
            f"The files of {asset.id} changed while they were inspected; complete it again.", code="changed"
        )
