"""Bringing a `pending` asset from the hub into the store: one process fetches it, another keeps it.

The process that talks to the hub has the network but neither database nor store; what it says is JSON.
"""

from dataclasses import asdict
from pathlib import Path

from sqlalchemy import update

from core.artifacts.store import Store
from core.assets.files import FileRecord, HubReference, digest
from core.assets.hub import HubClient
from core.assets.inspect import model_complete
from core.assets.tables import AssetFile, AssetStatus, Dataset, Model
from core.db import Database
from core.db.base import Json
from core.db.writes import rows_changed
from pruning.data.limits import LIMITS, Limits
from pruning.data.rows import summarise
from pruning.spec import Columns


def fetch(
    client: HubClient,
    reference: HubReference,
    files: tuple[FileRecord, ...],
    folder: Path,
    *,
    columns: Columns | None = None,
    limits: Limits = LIMITS,
) -> Json:
    """Download an asset into `folder` and inspect it; gives what `keep` needs.

    Raises InvalidModel, InvalidData, NotFound or HubUnavailable.
    """
    fetched = client.fetch(reference, files, folder)
    if reference.kind == "model":
        found: Json = {
            "parameters": model_complete({file.name: folder / file.name for file in fetched}).parameters
        }
    else:
        found = {"summary": summarise(folder, columns, limits).model_dump(mode="json")}
    return {"files": [asdict(file) for file in fetched], **found}


def keep(database: Database, store: Store, asset_id: str, folder: Path, fetched: Json) -> None:
    """Put fetched files into the store and call the asset ready, unless another worker has done so.

    Raises StorageFull.
    """
    names = [FileRecord(**file).name for file in fetched["files"]]
    stored = {name: store.put_file(folder / name) for name in names}
    files = [FileRecord(name, file.bytes, file.sha256) for name, file in stored.items()]
    kind: type[Model] | type[Dataset] = Model if asset_id.startswith("mdl_") else Dataset
    ready: Json = {
        "status": AssetStatus.READY,
        "digest": digest(files),
        "bytes": sum(file.bytes for file in files),
        **{name: fetched[name] for name in ("parameters", "summary") if name in fetched},
    }
    with database.write() as session:
        pending = update(kind).where(kind.id == asset_id, kind.status == AssetStatus.PENDING)
        if rows_changed(session, pending.values(**ready)) != 1:
            return
        for file in files:
            row = update(AssetFile).where(AssetFile.asset_id == asset_id, AssetFile.name == file.name)
            rows_changed(session, row.values(bytes=file.bytes, sha256=file.sha256))
