"""Files of models and datasets that arrive whole, in one request."""

from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from app.services import Services
from app.uploads.body import store_body
from core.accounts import quotas
from core.accounts.repository import Caller
from core.artifacts.digests import Measured
from core.artifacts.store import Stored
from core.assets import repository
from core.assets.files import FileRecord
from core.assets.names import check_dataset_name, check_model_name
from core.assets.tables import AssetStatus, Dataset, Model
from core.audit import log as audit
from core.errors import Conflict
from core.settings import Settings
from core.uploads.repository import Kind, require_none_open

Asset = TypeVar("Asset", Model, Dataset)


@dataclass(frozen=True)
class Limits:
    """The most bytes of one file, and of all files of a model or dataset together."""

    file_bytes: int
    total_bytes: int


def limits_of(settings: Settings, kind: Kind) -> Limits:
    """How large a model or dataset, and a file of it, may be."""
    if kind is Model:
        return Limits(settings.max_file_bytes, settings.max_model_bytes)
    return Limits(settings.max_dataset_bytes, settings.max_dataset_bytes)


def check_name(kind: Kind, name: str) -> None:
    """Raise InvalidRequest unless a model or dataset may have a file of this name."""
    check = check_model_name if kind is Model else check_dataset_name
    check(name)


async def take_file(
    request: Request,
    services: Services,
    kind: type[Asset],
    caller: Caller,
    asset_id: str,
    name: str,
    *,
    sha256: str | None,
) -> Stored:
    """Store the body of `request` as the file `name` of an asset that takes files.

    Raises NotFound, InvalidRequest for the name or bytes that have not the promised `sha256`, Conflict
    `already_complete`, QuotaExceeded, TooLarge, StorageFull, and what `store_body` raises; nothing is kept then.
    """
    check_name(kind, name)
    # Refuse before the body is read what would be refused after it.
    await run_in_threadpool(_require_room, services, kind, caller.owner_id, asset_id)
    limits = limits_of(services.settings, kind)
    stored = await store_body(
        request,
        services,
        lambda chunks: services.store.put(chunks if sha256 is None else Measured(chunks, sha256=sha256)),
        max_bytes=limits.file_bytes,
    )
    record = FileRecord(name, stored.bytes, stored.sha256)
    await run_in_threadpool(_name, services, kind, caller, asset_id, record, limits.total_bytes)
    return stored


def open_asset(services: Services, kind: type[Asset], owner_id: str, asset_id: str) -> list[FileRecord]:
    """The files that an asset has so far; raises NotFound, or Conflict `already_complete`."""
    with services.database.read() as session:
        asset = repository.get(session, kind, owner_id, asset_id)
        files = repository.files_of(session, asset)
    if asset.status != AssetStatus.UPLOADING:
        raise Conflict(f"{asset_id} is already complete.", code="already_complete")
    return [FileRecord(file.name, file.bytes, file.sha256) for file in files]


def files_to_complete(
    services: Services, kind: type[Asset], owner_id: str, asset_id: str
) -> list[FileRecord]:
    """The files that an asset is to be complete with.

    Raises NotFound, Conflict `already_complete`, or Conflict `upload_open` while one still arrives in parts.
    """
    files = open_asset(services, kind, owner_id, asset_id)
    with services.database.read() as session:
        require_none_open(session, kind, asset_id)
    return files


def _require_room(services: Services, kind: type[Asset], owner_id: str, asset_id: str) -> None:
    open_asset(services, kind, owner_id, asset_id)
    with services.database.read() as session:
        quotas.check_room(session, owner_id, services.quotas)


def _name(
    services: Services, kind: type[Asset], caller: Caller, asset_id: str, record: FileRecord, max_bytes: int
) -> None:
    owner_id = caller.owner_id
    with services.database.write() as session:
        quotas.hold(session, owner_id)
        repository.add_file(session, kind, owner_id, asset_id, record, max_bytes=max_bytes)
        quotas.check_stored(session, owner_id, services.quotas)
        audit.record(session, caller, f"{kind.__name__.lower()}.upload", asset_id)
