"""Uploads in parts in the database; every function takes the owner, and another's upload is not found."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, delete, select
from sqlalchemy.orm import Session

from core.assets import repository as assets
from core.assets.files import FileRecord
from core.assets.tables import Dataset, Model
from core.clock import now
from core.db.pages import Page, paginate
from core.db.writes import rows_changed
from core.errors import Conflict, NotFound, TooLarge
from core.ids import new_id
from core.uploads.tables import Upload, UploadPart, UploadStatus

Kind = type[Model] | type[Dataset]


@dataclass(frozen=True)
class Declaration:
    """The file that is to come: of which model or dataset, its name there, its size and SHA-256."""

    kind: Kind
    asset_id: str
    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class PartRecord:
    """A part in the store; `object` names what holds it."""

    number: int
    bytes: int
    sha256: str
    object: str


def declare(
    session: Session, owner_id: str, file: Declaration, *, part_bytes: int, max_bytes: int
) -> tuple[Upload, bool]:
    """An upload that takes parts, and whether it is new: the same declaration again finds the same upload.

    Raises NotFound, Conflict `already_complete`, TooLarge when all files together would exceed `max_bytes`,
    and Conflict `upload_conflict` while other bytes arrive under this name.
    """
    asset = assets.lock_uploading(session, file.kind, owner_id, file.asset_id)
    others = sum(other.bytes for other in assets.files_of(session, asset) if other.name != file.name)
    if others + file.bytes > max_bytes:
        raise TooLarge(f"The files of {asset.id} together would be larger than {max_bytes:,} bytes.")
    known = session.scalars(
        select(Upload).where(_belongs(file.kind, asset.id), Upload.name == file.name)
    ).one_or_none()
    if known is not None and known.status == UploadStatus.RECEIVING:
        if (known.bytes, known.sha256) != (file.bytes, file.sha256):
            message = f"Other bytes of {file.name} are on their way as {known.id}; delete that upload first."
            raise Conflict(message, code="upload_conflict")
        return known, False
    if known is not None:
        session.delete(known)
        session.flush()
    at = now(session)
    upload = Upload(
        id=new_id("upl"),
        owner_id=owner_id,
        model_id=asset.id if file.kind is Model else None,
        dataset_id=asset.id if file.kind is Dataset else None,
        name=file.name,
        bytes=file.bytes,
        sha256=file.sha256,
        part_bytes=part_bytes,
        created_at=at,
        updated_at=at,
    )
    session.add(upload)
    session.flush()
    return upload, True


def get(session: Session, owner_id: str, upload_id: str) -> Upload:
    """The owner's upload; raises NotFound."""
    return _found(session, owner_id, upload_id, lock=False)


def list_uploads(
    session: Session, owner_id: str, *, cursor: str | None = None, limit: int = 20
) -> Page[Upload]:
    """The owner's uploads, newest first."""
    query = select(Upload).where(Upload.owner_id == owner_id)
    return paginate(session, query, Upload.id, cursor=cursor, limit=limit)


def parts_of(session: Session, upload: Upload) -> list[UploadPart]:
    """The parts that have come, by number; none once the upload is complete."""
    query = select(UploadPart).where(UploadPart.upload_id == upload.id)
    return list(session.scalars(query.order_by(UploadPart.number)))


def keep_part(session: Session, owner_id: str, upload_id: str, part: PartRecord) -> str | None:
    """Name a stored object as a part; returns it when the same part is there already, so that it is of no use.

    Raises NotFound, Conflict `already_complete`, and Conflict `part_conflict` when other bytes are there.
    """
    upload = _locked(session, owner_id, upload_id)
    require_receiving(upload)
    upload.updated_at = now(session)
    known = session.get(UploadPart, (upload_id, part.number))
    if known is None:
        session.add(
            UploadPart(
                upload_id=upload_id,
                number=part.number,
                bytes=part.bytes,
                sha256=part.sha256,
                object=part.object,
            )
        )
        return None
    if known.sha256 != part.sha256:
        message = (
            f"Part {part.number} of {upload_id} is there with other bytes; delete the upload to start anew."
        )
        raise Conflict(message, code="part_conflict")
    return part.object


def finish(session: Session, owner_id: str, upload_id: str, *, max_bytes: int) -> list[str]:
    """Make the whole, which is in the store under its SHA-256, a file of its asset.

    Returns the objects that held its parts, now of no use; none when it was complete already. Raises as
    `assets.repository.add_file` does.
    """
    upload = get(session, owner_id, upload_id)
    if upload.status == UploadStatus.COMPLETE:
        return []
    # The asset before its upload, in the order in which they are locked when the asset is deleted.
    kind, asset_id = asset_of(upload)
    assets.lock_uploading(session, kind, owner_id, asset_id)
    upload = _locked(session, owner_id, upload_id)
    if upload.status == UploadStatus.COMPLETE:
        return []
    file = FileRecord(upload.name, upload.bytes, upload.sha256)
    assets.add_file(session, kind, owner_id, asset_id, file, max_bytes=max_bytes)
    upload.status, upload.updated_at = UploadStatus.COMPLETE, now(session)
    objects = _objects(session, upload_id)
    session.execute(delete(UploadPart).where(UploadPart.upload_id == upload_id))
    return objects


def discard(session: Session, owner_id: str, upload_id: str) -> list[str]:
    """Forget an upload, but not the file that it has become; returns the objects that held its parts."""
    upload = _locked(session, owner_id, upload_id)
    objects = _objects(session, upload_id)
    session.delete(upload)
    return objects


def discard_idle(session: Session, before: datetime) -> int:
    """Forget the uploads of which no part came since then; the number of them."""
    idle = select(Upload.id).where(Upload.updated_at < before, Upload.status == UploadStatus.RECEIVING)
    found = session.scalars(idle.with_for_update(skip_locked=True)).all()
    return rows_changed(session, delete(Upload).where(Upload.id.in_(found)))


def require_none_open(session: Session, kind: Kind, asset_id: str) -> None:
    """Raise Conflict `upload_open` while a file of the asset is still arriving in parts."""
    query = select(Upload).where(_belongs(kind, asset_id), Upload.status == UploadStatus.RECEIVING)
    if upload := session.scalars(query.limit(1)).first():
        message = f"{upload.name} is still arriving as {upload.id}; complete or delete that upload first."
        raise Conflict(message, code="upload_open")


def close(session: Session, kind: Kind, asset_id: str) -> None:
    """Forget the uploads of an asset that is complete now; raises Conflict `upload_open`."""
    require_none_open(session, kind, asset_id)
    session.execute(delete(Upload).where(_belongs(kind, asset_id)))


def require_receiving(upload: Upload) -> None:
    """Raise Conflict `already_complete` for an upload that takes no more parts."""
    if upload.status != UploadStatus.RECEIVING:
        raise Conflict(f"{upload.id} is already complete.", code="already_complete")


def asset_of(upload: Upload) -> tuple[Kind, str]:
    """What an upload is for: the kind, and the id."""
    return (Model, upload.model_id) if upload.model_id is not None else (Dataset, str(upload.dataset_id))


def _belongs(kind: Kind, asset_id: str) -> ColumnElement[bool]:
    return (Upload.model_id if kind is Model else Upload.dataset_id) == asset_id


def _locked(session: Session, owner_id: str, upload_id: str) -> Upload:
    return _found(session, owner_id, upload_id, lock=True)


def _found(session: Session, owner_id: str, upload_id: str, *, lock: bool) -> Upload:
    query = select(Upload).where(Upload.id == upload_id, Upload.owner_id == owner_id)
    if lock:
        query = query.with_for_update().execution_options(populate_existing=True)
    upload = session.scalars(query).one_or_none()
    if upload is None:
        raise NotFound(f"There is no upload {upload_id}.")
    return upload


def _objects(session: Session, upload_id: str) -> list[str]:
    return list(session.scalars(select(UploadPart.object).where(UploadPart.upload_id == upload_id)))
