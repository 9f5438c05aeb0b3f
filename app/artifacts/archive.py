"""Many stored files as one tar, made while it is sent: nothing is spooled, the bytes are always the same."""

import hashlib
import tarfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from fastapi.concurrency import run_in_threadpool

from app.http.content import read_exactly

_END = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class Member:
    """A file of the archive: its name there, its size, and the hash that names its stored bytes."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Archive:
    """A tar of `members` without dates, owners or padding to records, so equal members give equal bytes."""

    members: Sequence[Member]

    @property
    def digest(self) -> str:
        """A hash of names and contents, which names the archive's bytes as well."""
        lines = [f"{member.sha256} {member.bytes} {member.name}\n" for member in self.members]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def size(self) -> int:
        """The length of the stream."""
        sizes = (len(_header(member)) + member.bytes + _padding(member) for member in self.members)
        return sum(sizes) + len(_END)

    async def stream(self, open_object: Callable[[str], BinaryIO]) -> AsyncIterator[bytes]:
        """The archive piece by piece; `open_object` opens the bytes that a hash names."""
        for member in self.members:
            yield _header(member)
            file = await run_in_threadpool(open_object, member.sha256)
            try:
                async for chunk in read_exactly(file, member.bytes):
                    yield chunk
            finally:
                file.close()
            yield bytes(_padding(member))
        yield _END


def _header(member: Member) -> bytes:
    info = tarfile.TarInfo(member.name)
    info.size = member.bytes
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


def _padding(member: Member) -> int:
    return -member.bytes % tarfile.BLOCKSIZE
