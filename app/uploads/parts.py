"""Files that arrive in parts: each part a request of its own, then the whole put together."""

from anyio import to_thread
from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from app.services import Services
from app.uploads.body import store_body
from app.uploads.files import limits_of
from core.accounts import quotas
from core.accounts.repository import Caller
from core.audit import log as audit
from core.errors import Conflict, InvalidRequest, NotFound
from core.uploads import repository
from core.uploads.parts import assemble, delete_objects, store_part
from core.uploads.repository import PartRecord
from core.uploads.tables import Upload, UploadStatus


async def take_part(
    request: Request, services: Services, owner_id: str, upload_id: str, number: int, *, sha256: str | None
) -> PartRecord:
    """Store the body of `request` as a part.

    Raises NotFound, Conflict `already_complete` or `part_conflict`, InvalidRequest for a number that the file
    does not have, for a wrong length and for bytes that have not the promised `sha256`, StorageFull, and what
    `store_body` raises; nothing is kept then.
    """
    upload = await run_in_threadpool(_receiving, services, owner_id, upload_id)
    if number > upload.part_count:
        message = f"{upload_id} has parts 1 to {upload.part_count}, of {upload.part_bytes:,} bytes."
        raise InvalidRequest(message, param="path:number")
    part = await store_body(
        request,
        services,
        lambda chunks: store_part(services.store, upload, number, chunks, sha256=sha256),
        max_bytes=upload.size_of(number),
    )
    await run_in_threadpool(_keep, services, owner_id, upload_id, part)
    return part


async def complete(services: Services, caller: Caller, upload_id: str) -> Upload:
    """Make the parts a file of their model or dataset; once that is done, a repetition changes nothing.

    Raises NotFound, Conflict `parts_missing`, TooLarge, StorageFull with the parts kept, and InvalidRequest
    `digest_mismatch` with the upload forgotten: nobody knows which part is wrong.
    """
    # Copying a large file takes seconds: not in a thread that short requests wait for.
    return await to_thread.run_sync(_complete, services, caller, upload_id, limiter=services.upload_threads)


def discard(services: Services, caller: Caller, upload_id: str) -> None:
    """Forget an upload and its parts; raises NotFound."""
    with services.database.write() as session:
        objects = repository.discard(session, caller.owner_id, upload_id)
        audit.record(session, caller, "upload.delete", upload_id)
    delete_objects(services.store, objects)


def _complete(services: Services, caller: Caller, upload_id: str) -> Upload:
    owner_id = caller.owner_id
    with services.database.read() as session:
        upload = repository.get(session, owner_id, upload_id)
        parts = repository.parts_of(session, upload)
    if upload.status == UploadStatus.COMPLETE:
        return upload
    try:
        assemble(services.store, upload, parts)
    except (InvalidRequest, NotFound) as error:
        with services.database.read() as session:
            upload = repository.get(session, owner_id, upload_id)
        # Another request may have completed it, and so deleted the parts under this one.
        if upload.status == UploadStatus.COMPLETE:
            return upload
        discard(services, caller, upload_id)
        message = f"The parts of {upload.name} are not the file that was declared. Declare and send it anew."
        raise InvalidRequest(message, code="digest_mismatch") from error
    kind, asset_id = repository.asset_of(upload)
    limits = limits_of(services.settings, kind)
    with services.database.write() as session:
        quotas.hold(session, owner_id)
        objects = repository.finish(session, owner_id, upload_id, max_bytes=limits.total_bytes)
        upload = repository.get(session, owner_id, upload_id)
        audit.record(session, caller, f"{kind.__name__.lower()}.upload", asset_id)
    delete_objects(services.store, objects)
    return upload


def _receiving(services: Services, owner_id: str, upload_id: str) -> Upload:
    with services.database.read() as session:
        upload = repository.get(session, owner_id, upload_id)
    repository.require_receiving(upload)
    return upload


def _keep(services: Services, owner_id: str, upload_id: str, part: PartRecord) -> None:
    try:
        with services.database.write() as session:
            of_no_use = repository.keep_part(session, owner_id, upload_id, part)
    except (Conflict, NotFound):
        services.store.delete(part.object)
        raise
    if of_no_use is not None:
        services.store.delete(of_no_use)
