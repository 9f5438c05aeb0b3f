"""A store in a folder, for several processes, and machines that share a volume, at the same time."""

import errno
import fcntl
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from core.artifacts.store import Stored, is_hash, require_hash
from core.errors import NotFound, StorageFull, StoreUnavailable, TooLarge

_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FAILING = (errno.EIO, errno.EROFS, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.ETIMEDOUT)
"""How a disk, or the server of a shared one, says that it cannot at this time."""


class LocalStore:
    """Objects under `{root}/sha256/ab/abcd...`; written to `{root}/incoming` first and renamed when whole."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"
        self._objects = root / "sha256"
        for folder in (self._incoming, self._objects):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def writer(self, *, max_bytes: int | None = None) -> Iterator["LocalWriter"]:
        """A writer; what is not published when the block ends leaves nothing behind."""
        temporary = self._incoming / token_hex(16)
        try:
            with temporary.open("xb", buffering=0) as file:
                yield LocalWriter(self, file, max_bytes)
        finally:
            temporary.unlink(missing_ok=True)

    def put(self, chunks: Iterable[bytes], *, max_bytes: int | None = None) -> Stored:
        """Store bytes as they come; raises StorageFull or TooLarge, with nothing left over."""
        with self.writer(max_bytes=max_bytes) as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.publish()

    def put_file(self, path: Path) -> Stored:
        """Store a copy of a file; raises StorageFull with nothing left over."""
        with path.open("rb") as file:
            return self.put(iter(lambda: file.read(_CHUNK), b""))

    def open(self, sha256: str, start: int = 0) -> BinaryIO:
        """The object from byte `start`; raises NotFound."""
        try:
            file = self._object(sha256).open("rb")
        except FileNotFoundError:
            raise NotFound(f"The store has no object {sha256}.") from None
        file.seek(start)
        return file

    def path(self, sha256: str) -> Path | None:
        """Where the object lies, read-only; None when there is no such object."""
        path = self._object(sha256)
        return path if path.is_file() else None

    def download_url(self, sha256: str, *, filename: str, media_type: str) -> None:
        """Nowhere but through the API."""

    def exists(self, sha256: str) -> bool:
        """Whether the object is there."""
        return self.path(sha256) is not None

    def objects(self) -> Iterator[str]:
        """The hash of every object."""
        return (path.name for path in self._objects.glob("*/*") if is_hash(path.name))

    def delete(self, sha256: str, *, unused_seconds: float = 0) -> bool:
        """Delete an object unless it was put less than `unused_seconds` ago; says whether it was deleted."""
        path = self._object(sha256)
        with self._lock(fcntl.LOCK_EX), suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= unused_seconds:
                path.unlink()
                return True
        return False

    def discard_unpublished(self, *, older_seconds: float) -> int:
        """Delete what writers that died left half written; the number of files."""
        old = [
            path for path in self._incoming.iterdir() if time.time() - path.stat().st_mtime >= older_seconds
        ]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)

    def check(self) -> None:
        """Raise StorageFull or OSError when the store cannot be written to."""
        temporary = self._incoming / token_hex(16)
        try:
            with full_disk_reported():
                temporary.write_bytes(b"\0" * 4096)
        finally:
            temporary.unlink(missing_ok=True)

    def publish(self, temporary: Path, sha256: str) -> None:
        """Rename a whole file to what it is named by; only writers call this."""
        path = self._object(sha256)
        temporary.chmod(0o400)
        # Also when the object is there already: the new file's date keeps a sweep from deleting what is about
        # to be named, and the lock keeps it from doing so between its look at the date and its unlink.
        with full_disk_reported(), self._lock(fcntl.LOCK_SH):
            path.parent.mkdir(exist_ok=True, mode=0o700)
            temporary.replace(path)
            _sync_folder(path.parent)

    def _object(self, sha256: str) -> Path:
        return self._objects / require_hash(sha256)[:2] / sha256

    @contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        with (self.root / "lock").open("ab") as file:
            fcntl.flock(file, kind)
            yield


class LocalWriter:
    """An object on its way into a `LocalStore`."""

    def __init__(self, store: LocalStore, file: FileIO, max_bytes: int | None) -> None:
        self._store = store
        self._file = file
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, chunk: bytes) -> None:
        """Add bytes; raises StorageFull or TooLarge."""
        self._size += len(chunk)
        if self._max_bytes is not None and self._size > self._max_bytes:
            raise TooLarge(f"The file is larger than {self._max_bytes:,} bytes.")
        self._digest.update(chunk)
        rest = memoryview(chunk)
        with full_disk_reported():
            while rest:
                rest = rest[self._file.write(rest) :]

    def publish(self) -> Stored:
        """Make the object exist; raises StorageFull."""
        with full_disk_reported():
            os.fsync(self._file.fileno())
        self._store.publish(Path(str(self._file.name)), self._digest.hexdigest())
        return Stored(self._digest.hexdigest(), self._size)


@contextmanager
def full_disk_reported() -> Iterator[None]:
    """Raise StorageFull where the system says that there is no room, StoreUnavailable where the disk fails."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull("The disk has no room for this file.") from error
        if error.errno in FAILING:
            raise StoreUnavailable(f"The disk fails: {error.strerror}.") from error
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
