"""The bytes of parts: each an object of its own in the store, until the whole file is put together."""

from collections.abc import Iterable, Iterator, Sequence
from secrets import token_bytes

from core.artifacts.digests import Measured
from core.artifacts.store import Store, Stored
from core.errors import Conflict
from core.uploads.repository import PartRecord
from core.uploads.tables import Upload, UploadPart

_SALT_BYTES = 32
_CHUNK = 1 << 20
_NAMED_AT_MOST = 20


def store_part(
    store: Store, upload: Upload, number: int, chunks: Iterable[bytes], *, sha256: str | None = None
) -> PartRecord:
    """Store one part as it comes; nothing is left of one that has another length or not this `sha256`.

    Raises InvalidRequest `wrong_part_size` or `digest_mismatch`, and StorageFull. The object begins with random
    bytes, so that nothing else ever shares it, and it can be deleted at the moment its upload ends.
    """
    part = Measured(chunks, bytes=upload.size_of(number), sha256=sha256)
    stored = store.put(_salted(part))
    return PartRecord(number, part.bytes, part.sha256, stored.sha256)


def assemble(store: Store, upload: Upload, parts: Sequence[UploadPart]) -> Stored:
    """Put the whole file together under its own SHA-256; the parts stay.

    Raises Conflict `parts_missing`, InvalidRequest `digest_mismatch` when it is not the file that was declared,
    and StorageFull; nothing of the whole is kept then.
    """
    _require_all(upload, parts)
    return store.put(Measured(_joined(store, parts), bytes=upload.bytes, sha256=upload.sha256))


def delete_objects(store: Store, objects: Iterable[str]) -> None:
    """Delete what held parts of uploads that are over; what a crash leaves here, the sweep deletes."""
    for name in objects:
        store.delete(name)


def _salted(chunks: Iterable[bytes]) -> Iterator[bytes]:
    yield token_bytes(_SALT_BYTES)
    yield from chunks


def _joined(store: Store, parts: Sequence[UploadPart]) -> Iterator[bytes]:
    for part in parts:
        with store.open(part.object, _SALT_BYTES) as file:
            while chunk := file.read(_CHUNK):
                yield chunk


def _require_all(upload: Upload, parts: Sequence[UploadPart]) -> None:
    there = {part.number for part in parts}
    missing = [number for number in range(1, upload.part_count + 1) if number not in there]
    if missing:
        numbers = ", ".join(map(str, missing[:_NAMED_AT_MOST]))
        more = ", ..." if len(missing) > _NAMED_AT_MOST else ""
        message = f"{len(missing)} of {upload.part_count} parts of {upload.id} are missing: {numbers}{more}."
        raise Conflict(message, code="parts_missing")
