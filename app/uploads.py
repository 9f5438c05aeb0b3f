"""Raw request bodies on their way into the store: bounded while read, never kept when they break off."""

from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

import anyio
from anyio import from_thread, to_thread
from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from app.http.body_limit import limit_of
from app.http.problem import Problem
from app.services import Services
from core.accounts import quotas
from core.accounts.repository import Caller
from core.artifacts.store import Stored
from core.assets import repository
from core.assets.files import FileRecord
from core.assets.tables import AssetStatus, Dataset, Model
from core.audit import log as audit
from core.errors import Conflict

SILENCE_SECONDS = 60.0

Asset = TypeVar("Asset", Model, Dataset)


async def take_file(
    request: Request,
    services: Services,
    kind: type[Asset],
    caller: Caller,
    asset_id: str,
    name: str,
    *,
    max_file_bytes: int,
    max_total_bytes: int,
) -> Stored:
    """Store the body of `request` as the file `name` of an asset that takes files.

    Raises NotFound, Conflict `already_complete`, QuotaExceeded, TooLarge, StorageFull, 413 at the first byte too
    many, 408 after a minute of silence, and 400 when the client leaves; nothing is kept then.
    """
    # Refuse before the body is read what would be refused after it.
    await run_in_threadpool(_require_room, services, kind, caller.owner_id, asset_id)
    limit_of(request.scope).maximum = max_file_bytes
    body = request.stream()
    stored = await to_thread.run_sync(
        lambda: services.store.put(_chunks(body)), limiter=services.upload_threads
    )
    record = FileRecord(name, stored.bytes, stored.sha256)
    await run_in_threadpool(_name, services, kind, caller, asset_id, record, max_total_bytes)
    return stored


def open_upload(services: Services, kind: type[Asset], owner_id: str, asset_id: str) -> list[FileRecord]:
    """The files that an asset has so far; raises NotFound, or Conflict `already_complete`."""
    with services.database.read() as session:
        asset = repository.get(session, kind, owner_id, asset_id)
        files = repository.files_of(session, asset)
    if asset.status != AssetStatus.UPLOADING:
        raise Conflict(f"{asset_id} is already complete.", code="already_complete")
    return [FileRecord(file.name, file.bytes, file.sha256) for file in files]


def _require_room(services: Services, kind: type[Asset], owner_id: str, asset_id: str) -> None:
    open_upload(services, kind, owner_id, asset_id)
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


def _chunks(body: AsyncIterator[bytes]) -> Iterator[bytes]:
    """The body for a thread that writes it."""
    while chunk := from_thread.run(_next, body):
        yield chunk


async def _next(body: AsyncIterator[bytes]) -> bytes:
    try:
        with anyio.fail_after(SILENCE_SECONDS):
            return await anext(body, b"")
    except TimeoutError:
        raise Problem(408, "upload_stalled", f"No byte came for {SILENCE_SECONDS:.0f} seconds.") from None
    except ClientDisconnect:
        raise Problem(400, "upload_broken_off", "The connection ended before the body did.") from None
