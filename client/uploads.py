"""How files go up: small ones whole, large ones in parts, and after an interruption only what is missing."""

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import httpx

from client.calls import pages
from client.errors import ApiProblem, UploadBroken
from client.replies import Asset, Upload
from client.transport import Transport

Sent = Callable[[str, int], None]
"""Called while uploading with the file's name and the bytes that are there since the last call."""
Collection = Literal["models", "datasets"]

WHOLE_BYTES = 16 << 20
"""A file that is not larger goes in one request."""
_PATIENCE_SECONDS = 60.0
_SLOWEST_COPY = 10e6
"""Bytes per second at which a service puts parts together at worst."""


def upload(
    transport: Transport, collection: Collection, files: Mapping[str, Path], name: str, sent: Sent | None
) -> httpx.Response:
    """Make a model or dataset of `files`, and return the service's answer to its completion.

    An upload that broke off goes on: it is recognised by the name and by the SHA-256 of a large file. Raises
    UploadBroken when the service has other bytes than were read from disk.
    """
    digests = {file: _sha256(path) for file, path in files.items() if path.stat().st_size > WHOLE_BYTES}
    asset = _begun(transport, collection, files, name, digests)
    if asset is None:
        reply = transport.request("POST", f"/v1/{collection}", json={"name": name})
        asset_id, there = str(reply.json()["id"]), set[str]()
    else:
        asset_id, there = asset.id, {file.name for file in asset.files}
    for file, path in files.items():
        if file in there:
            _tell(sent, file, path.stat().st_size)
        elif file in digests:
            _send_parts(transport, collection, asset_id, file, path, digests[file], sent)
        else:
            _send_whole(transport, collection, asset_id, file, path, sent)
    return _complete(transport, f"/v1/{collection}/{asset_id}")


def _begun(
    transport: Transport,
    collection: Collection,
    files: Mapping[str, Path],
    name: str,
    digests: Mapping[str, str],
) -> Asset | None:
    """A model or dataset of this name that has no other files than these, and parts of a large one of them."""
    if not digests:
        return None
    for found in pages(transport, "/v1/uploads", Upload):
        asset_id = found.model if collection == "models" else found.dataset
        if asset_id is None or digests.get(found.name) != found.sha256:
            continue
        reply = transport.request("GET", f"/v1/{collection}/{asset_id}")
        asset = Asset.model_validate_json(reply.content)
        ours = all(
            file.name in files and (digests.get(file.name) or _sha256(files[file.name])) == file.sha256
            for file in asset.files
        )
        if ours and asset.name == name and asset.status == "uploading":
            return asset
    return None


def _send_whole(
    transport: Transport, collection: Collection, asset_id: str, name: str, path: Path, sent: Sent | None
) -> None:
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    place = f"/v1/{collection}/{asset_id}/files/{quote(name)}"
    response = transport.request("PUT", place, headers=_headers(content, sha256), body=_of(content))
    if response.headers.get("etag", "").strip('"') != sha256:
        raise UploadBroken(f"{name}: the service stored other bytes than {path} holds; upload it again")
    _tell(sent, name, len(content))


def _send_parts(
    transport: Transport,
    collection: Collection,
    asset_id: str,
    name: str,
    path: Path,
    sha256: str,
    sent: Sent | None,
) -> None:
    """Declare a file, send the parts that the service does not have, and let it put them together."""
    file = {"name": name, "bytes": path.stat().st_size, "sha256": sha256}
    declared = transport.request("POST", "/v1/uploads", json=file | {collection.removesuffix("s"): asset_id})
    upload = Upload.model_validate_json(declared.content)
    there = {part.number for part in upload.parts}
    with path.open("rb") as stream:
        for number in range(1, upload.part_count + 1):
            content = stream.read(upload.part_bytes)
            if number not in there:
                place = f"/v1/uploads/{upload.id}/parts/{number}"
                headers = _headers(content, hashlib.sha256(content).hexdigest())
                transport.request("PUT", place, headers=headers, body=_of(content))
            _tell(sent, name, len(content))
    patience = _PATIENCE_SECONDS + upload.bytes / _SLOWEST_COPY
    transport.request("POST", f"/v1/uploads/{upload.id}/complete", timeout=patience)


def _complete(transport: Transport, place: str) -> httpx.Response:
    try:
        return transport.request("POST", f"{place}/complete")
    except ApiProblem as problem:
        if problem.code != "already_complete":  # by a first try, whose answer was lost
            raise
        return transport.request("GET", place)


def _headers(content: bytes, sha256: str) -> dict[str, str]:
    digest = base64.b64encode(bytes.fromhex(sha256)).decode()
    return {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(len(content)),
        "Content-Digest": f"sha-256=:{digest}:",
    }


def _of(content: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter((content,))


def _tell(sent: Sent | None, name: str, count: int) -> None:
    if sent is not None and count:
        sent(name, count)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
