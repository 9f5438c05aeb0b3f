"""A store in a folder, which several processes, and machines with a shared volume, may use at the same time."""

import errno
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO

from core.artifacts.store import Stored
from core.errors import NotFound, StorageFull, TooLarge

_HASH = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class LocalStore:
    """Objects under `{root}/sha256/ab/abcd...`; written to `{root}/incoming` first and renamed when whole."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"
        self._objects = root / "sha256"
        for folder in (self._incoming, self._objects):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, chunks: Iterable[bytes], *, max_bytes: int | None = None) -> Stored:
        """Store bytes as they come; raises StorageFull or TooLarge, with nothing left over."""
        temporary = self._incoming / token_hex(16)
        digest, size = hashlib.sha256(), 0
        try:
            with _full_disk_reported(), temporary.open("xb") as file:
                for chunk in chunks:
                    size += len(chunk)
                    if max_bytes is not None and size > max_bytes:
                        raise TooLarge(f"More than {max_bytes:,} bytes.")
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            self._publish(temporary, digest.hexdigest())
        finally:
            temporary.unlink(missing_ok=True)
        return Stored(digest.hexdigest(), size)

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

    def exists(self, sha256: str) -> bool:
        """Whether the object is there."""
        return self.path(sha256) is not None

    def objects(self) -> Iterator[str]:
        """The hash of every object."""
        return (path.name for path in self._objects.glob("*/*") if _HASH.fullmatch(path.name))

    def delete(self, sha256: str, *, unused_seconds: float = 0) -> bool:
        """Delete an object unless it was put less than `unused_seconds` ago; says whether it was deleted."""
        path = self._object(sha256)
        with self._lock(fcntl.LOCK_EX), suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime >= unused_seconds:
                path.unlink()
                return True
        return False

    def discard_incoming(self, *, older_seconds: float) -> int:
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
            with _full_disk_reported():
                temporary.write_bytes(b"\0" * 4096)
        finally:
            temporary.unlink(missing_ok=True)

    def _publish(self, temporary: Path, sha256: str) -> None:
        path = self._object(sha256)
        temporary.chmod(0o400)
        # Also when the object is there already: the new file's date keeps the sweep from deleting an object that
        # is about to be named, and the lock keeps it from doing so between its look at the date and its unlink.
        with _full_disk_reported(), self._lock(fcntl.LOCK_SH):
            path.parent.mkdir(exist_ok=True, mode=0o700)
            temporary.replace(path)
            _sync_folder(path.parent)

    def _object(self, sha256: str) -> Path:
        if not _HASH.fullmatch(sha256):
            raise NotFound("That is not the name of an object.")
        return self._objects / sha256[:2] / sha256

    @contextmanager
    def _lock(self, kind: int) -> Iterator[None]:
        with (self.root / "lock").open("ab") as file:
            fcntl.flock(file, kind)
            yield


@contextmanager
def _full_disk_reported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull("The disk has no room for this file.") from error
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
