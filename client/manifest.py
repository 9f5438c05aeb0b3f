"""Manifests of results: reading one, checking its signature, and comparing files with it. Needs no service."""

import base64
import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import ValidationError

from client.downloads import destination
from client.errors import DownloadBroken, NotVerified
from client.replies import Reply, StoredFile

FILE_NAME = "manifest.json"
_FORMAT = "prunery-manifest/1"
_MODEL_FOLDER = "model/"
_CHUNK = 1 << 20


class _Key(Reply):
    kty: str
    crv: str
    x: str
    kid: str


class _Document(Reply):
    format: str
    job: str
    files: tuple[StoredFile, ...]
    key: _Key | None
    signature: str | None


@dataclass(frozen=True)
class Manifest:
    """What the files of a result are. `key_id` names the key whose signature was checked; None: it is not signed."""

    document: dict[str, Any]
    job: str
    files: Mapping[str, StoredFile]
    key_id: str | None

    @classmethod
    def read(cls, content: bytes) -> "Manifest":
        """A manifest by its text; raises NotVerified when it is none, or its signature is not one of its key."""
        try:
            document = json.loads(content)
            parsed = _Document.model_validate(document)
        except (ValueError, RecursionError, ValidationError):
            raise NotVerified(f"this is no manifest of the format {_FORMAT}") from None
        if parsed.format != _FORMAT:
            raise NotVerified(f"the manifest has the format {parsed.format!r:.40}, known is {_FORMAT}")
        files = {file.name: file for file in parsed.files}
        if len(files) < len(parsed.files):
            raise NotVerified("the manifest names a file twice")
        return cls(document, parsed.job, files, _signer(document, parsed))

    def require_same(self, files: Mapping[str, str]) -> None:
        """Raise NotVerified unless the manifest names these files, by their sha256, and no other."""
        if files != {name: file.sha256 for name, file in self.files.items()}:
            raise NotVerified(f"the service lists other files of {self.job} than its manifest: trust neither")

    def require_archive(self, path: Path) -> None:
        """Raise DownloadBroken unless a tar holds the files of the model's folder and nothing else."""
        expected = {name: file.sha256 for name, file in self.files.items() if name.startswith(_MODEL_FOLDER)}
        found: dict[str, str | None] = {}
        try:
            with tarfile.open(path, "r:") as archive:
                for member in archive:
                    file = archive.extractfile(member) if member.isreg() else None
                    found[member.name] = _sha256(file) if file else None
        except tarfile.TarError:
            raise DownloadBroken("the archive is no tar; download it again") from None
        if found != expected:
            raise DownloadBroken("the archive holds other files than the manifest names; download it again")

    def faults(self, folder: Path) -> Iterator[str]:
        """One line for each file that is missing, differs, or is under `folder` without being named."""
        for name, file in self.files.items():
            if fault := _fault(destination(folder, name), file):
                yield f"{name}: {fault}"
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if name not in self.files and name != FILE_NAME and (path.is_symlink() or not path.is_dir()):
                yield f"{name}: is not in the manifest"


def _signer(document: dict[str, Any], parsed: _Document) -> str | None:
    """The id of the key that signed; raises NotVerified when there is half a signature or a wrong one."""
    if parsed.key is None and parsed.signature is None:
        return None
    if parsed.key is None or parsed.signature is None:
        raise NotVerified("the manifest has a key without a signature, or a signature without a key")
    signed = {name: value for name, value in document.items() if name != "signature"}
    try:
        key = Ed25519PublicKey.from_public_bytes(_decode(parsed.key.x))
        key.verify(_decode(parsed.signature), _canonical(signed))
    except (InvalidSignature, ValueError):
        raise NotVerified("the signature does not fit the manifest: one of them was changed") from None
    members = {"crv": parsed.key.crv, "kty": parsed.key.kty, "x": parsed.key.x}
    if (
        base64.urlsafe_b64encode(hashlib.sha256(_canonical(members)).digest())
        != f"{parsed.key.kid}=".encode()
    ):
        raise NotVerified("the key of the manifest has another id than it says")
    return parsed.key.kid


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _fault(path: Path, file: StoredFile) -> str:
    if path.is_symlink() or not path.is_file():
        return "is missing" if not path.is_symlink() and not path.exists() else "is no regular file"
    if path.stat().st_size != file.bytes:
        return f"has {path.stat().st_size:,} bytes, not {file.bytes:,}"
    with path.open("rb") as stream:
        found = _sha256(stream)
    return "" if found == file.sha256 else f"has the sha256 {found}, not {file.sha256}"


def _sha256(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
