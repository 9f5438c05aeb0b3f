"""Downloads that go on where they broke off, are checked by sha256, and appear whole or not at all."""

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from client.errors import DownloadBroken, Unreachable
from client.replies import Artifact
from client.transport import Transport, pause

Received = Callable[[str, int], None]
"""Called while downloading with the artifact's name and the bytes that came since the last call."""


def destination(folder: Path, name: str) -> Path:
    """Where an artifact goes under `folder`; raises DownloadBroken for a name that would leave it."""
    parts = PurePosixPath(name).parts
    if not parts or "\\" in name or name.startswith("/") or any(part in ("..", ".") for part in parts):
        raise DownloadBroken(f"the service names a file {name!r}, which is not a path inside a folder")
    return folder.joinpath(*parts)


def fetch(transport: Transport, artifact: Artifact, target: Path, received: Received | None = None) -> None:
    """Bring one artifact to `target`, going on from an earlier `.part` file; a finished, equal file is kept.

    Raises DownloadBroken when the bytes are not those of the manifest and Unreachable when the connection
    keeps breaking without a byte of progress.
    """
    if target.exists() and _sha256(target) == artifact.sha256:
        _tell(received, artifact, artifact.bytes)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    part.touch()
    if part.stat().st_size > artifact.bytes:
        part.write_bytes(b"")
    _tell(received, artifact, part.stat().st_size)
    failures = 0
    while part.stat().st_size < artifact.bytes:
        before = part.stat().st_size
        try:
            _continue(transport, artifact, part, received)
        except Unreachable:
            if failures == transport.retries:
                raise
            time.sleep(pause(failures))
        failures = 0 if part.stat().st_size > before else failures + 1
        if failures > transport.retries:
            raise DownloadBroken(f"{artifact.name}: the service sends no more bytes; try again later")
    if part.stat().st_size != artifact.bytes or _sha256(part) != artifact.sha256:
        part.unlink()
        raise DownloadBroken(f"{artifact.name}: the bytes do not have the promised sha256; download it again")
    part.replace(target)


def fetch_archive(
    transport: Transport,
    path: str,
    target: Path,
    check: Callable[[Path], None],
    received: Received | None = None,
) -> None:
    """Bring a streamed archive, whose size and digest nobody knows beforehand, to `target` in one go.

    It gets its name when `check` has found nothing wrong with it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    try:
        with transport.stream(path) as response, part.open("wb") as stream:
            for chunk in response.iter_raw():
                stream.write(chunk)
                if received is not None:
                    received(target.name, len(chunk))
            os.fsync(stream.fileno())
        check(part)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _continue(transport: Transport, artifact: Artifact, part: Path, received: Received | None) -> None:
    start = part.stat().st_size
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": f'"{artifact.sha256}"'}
    with transport.stream(f"/v1/artifacts/{artifact.id}/content", headers=headers) as response:
        resumed = "content-range" in response.headers
        if start and not resumed:
            _tell(received, artifact, -start)
        with part.open("ab" if resumed else "wb") as stream:
            for chunk in response.iter_raw():
                stream.write(chunk)
                _tell(received, artifact, len(chunk))
            stream.flush()
            os.fsync(stream.fileno())


def _tell(received: Received | None, artifact: Artifact, count: int) -> None:
    if received is not None and count:
        received(artifact.name, count)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
