"""Bring what an attempt made into the store. What publishes it is the commit that names the files."""

import mimetypes
import stat
from collections.abc import Iterator
from pathlib import Path

from core.artifacts.store import Store
from core.jobs.attempts import ArtifactRecord

PRIVATE = "work"
"""The folder of `out/` that holds checkpoints, and is never published."""

_OWN_TYPES = {
    ".safetensors": "application/octet-stream",
    ".md": "text/markdown",
    ".jsonl": "application/jsonl",
}


def publish(out: Path, store: Store) -> list[ArtifactRecord]:
    """Store every deliverable under `out` and return the records that name them, by name.

    Raises StorageFull; what was stored until then is named by nobody and is swept away.
    """
    records = []
    for path in deliverables(out):
        name = path.relative_to(out).as_posix()
        stored = store.put_file(path)
        records.append(ArtifactRecord(name, stored.bytes, stored.sha256, media_type(name)))
    return records


def deliverables(out: Path) -> Iterator[Path]:
    """The regular files under `out` by name, without the private folder. Links are not followed."""
    for path in sorted(out.rglob("*")):
        private = path.relative_to(out).parts[0] == PRIVATE
        if not private and stat.S_ISREG(path.lstat().st_mode):
            yield path


def media_type(name: str) -> str:
    """The media type that a download of this file is sent with."""
    return _OWN_TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
