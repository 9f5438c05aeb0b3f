"""Where the bytes of models, datasets and results lie: objects that never change, named by their SHA-256.

Every act of a store may raise StoreUnavailable.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from core.errors import NotFound

_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Stored:
    """An object in the store."""

    sha256: str
    bytes: int


def is_hash(name: str) -> bool:
    """Whether an object could have this name."""
    return _HASH.fullmatch(name) is not None


def require_hash(name: str) -> str:
    """The name of an object, which is the only text that may become part of a path; raises NotFound."""
    if not is_hash(name):
        raise NotFound("That is not the name of an object.")
    return name


class Writer(Protocol):
    """An object on its way into the store."""

    def write(self, chunk: bytes) -> None:
        """Add bytes; raises StorageFull or TooLarge."""

    def publish(self) -> Stored:
        """Make the object exist; raises StorageFull."""


class Store(Protocol):
    """A store of immutable objects. An object is there whole or not at all."""

    def writer(self, *, max_bytes: int | None = None) -> AbstractContextManager[Writer]:
        """A writer; what is not published when the block ends leaves nothing behind."""

    def put(self, chunks: Iterable[bytes], *, max_bytes: int | None = None) -> Stored:
        """Store bytes as they come; raises StorageFull or TooLarge, with nothing left over."""

    def put_file(self, path: Path) -> Stored:
        """Store a copy of a file; raises StorageFull with nothing left over."""

    def open(self, sha256: str, start: int = 0) -> BinaryIO:
        """The object from byte `start`; raises NotFound."""

    def path(self, sha256: str) -> Path | None:
        """Where the object lies as a local, read-only file; None for a store without files, or without it."""

    def download_url(self, sha256: str, *, filename: str, media_type: str) -> str | None:
        """Where a client gets the object itself within five minutes, to save as `filename`; None for nowhere.

        Asks nobody whether the object is there.
        """

    def exists(self, sha256: str) -> bool:
        """Whether the object is there."""

    def objects(self) -> Iterator[str]:
        """The hash of every object."""

    def discard_unpublished(self, *, older_seconds: float) -> int:
        """Delete what writers that died left half written; the number of files."""

    def delete(self, sha256: str, *, unused_seconds: float = 0) -> bool:
        """Delete an object unless it was put less than `unused_seconds` ago; says whether it was deleted."""

    def check(self) -> None:
        """Raise StorageFull, StoreUnavailable or OSError when the store cannot be written to."""
