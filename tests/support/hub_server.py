"""A small hub on loopback: the routes by which huggingface_hub looks up a repository and gets its files."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

_INFO = re.compile(r"/api/(?P<kind>models|datasets)/(?P<id>[^/]+(?:/[^/]+)?)(?:/revision/(?P<revision>.+))?")
_FILE = re.compile(r"/(?P<kind>datasets/)?(?P<id>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
LARGE = (".safetensors", ".parquet", ".bin")
"""Files that the hub keeps outside git, and states the SHA-256 of."""


@dataclass
class Repository:
    """A model or dataset at one commit, which `main` points to. `token` makes it gated."""

    kind: str
    id: str
    files: dict[str, bytes]
    token: str | None = None

    @property
    def commit(self) -> str:
        """The hash of its files, in the form of a commit."""
        content = b"".join(name.encode() + data for name, data in sorted(self.files.items()))
        return hashlib.sha1(content).hexdigest()

    def info(self) -> dict[str, Any]:
        """The answer to a look-up with file metadata."""
        return {
            "id": self.id,
            "sha": self.commit,
            "siblings": [self._sibling(name) for name in sorted(self.files)],
        }

    def etag(self, path: str) -> str:
        """The SHA-256 of a large file, else a git hash."""
        data = self.files[path]
        return hashlib.sha256(data).hexdigest() if path.endswith(LARGE) else hashlib.sha1(data).hexdigest()

    def _sibling(self, path: str) -> dict[str, Any]:
        size = len(self.files[path])
        entry: dict[str, Any] = {"rfilename": path, "size": size, "blobId": self.etag(path)[:40]}
        if path.endswith(LARGE):
            entry["lfs"] = {"sha256": self.etag(path), "size": size, "pointerSize": 130}
        return entry


@dataclass
class HubServer:
    """A hub at `url`; `requests` are the (method, path) asked so far, `broken` makes every answer a 500."""

    url: str
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    broken: bool = False

    def add(self, kind: str, id: str, files: Mapping[str, bytes], *, token: str | None = None) -> Repository:
        """Publish a repository; `kind` is "model" or "dataset"."""
        repository = Repository(kind, id, dict(files), token)
        self.repositories[kind, id] = repository
        return repository


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Tests read `HubServer.requests` instead."""

    def _answer(self, *, body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        if self.hub.broken:
            self._send(HTTPStatus.INTERNAL_SERVER_ERROR, b"{}", body=body)
        elif match := _INFO.fullmatch(path):
            self._info(match, body=body)
        elif match := _FILE.fullmatch(path):
            self._file(match, body=body)
        else:
            self._send(HTTPStatus.NOT_FOUND, b"{}", body=body)

    def _info(self, match: re.Match[str], *, body: bool) -> None:
        repository = self._repository(
            match["kind"].removesuffix("s"), match["id"], match["revision"], body=body
        )
        if repository is not None:
            content = json.dumps(repository.info()).encode()
            self._send(HTTPStatus.OK, content, {"Content-Type": "application/json"}, body=body)

    def _file(self, match: re.Match[str], *, body: bool) -> None:
        kind = "dataset" if match["kind"] else "model"
        repository = self._repository(kind, match["id"], match["revision"], body=body)
        if repository is None:
            return
        path = match["path"]
        if path not in repository.files:
            self._send(HTTPStatus.NOT_FOUND, b"", {"X-Error-Code": "EntryNotFound"}, body=body)
            return
        headers = {
            "ETag": f'"{repository.etag(path)}"',
            "X-Repo-Commit": repository.commit,
            "X-Linked-Size": str(len(repository.files[path])),
            "X-Linked-Etag": f'"{repository.etag(path)}"',
        }
        self._send(HTTPStatus.OK, repository.files[path], headers, body=body)

    def _repository(self, kind: str, id: str, revision: str | None, *, body: bool) -> Repository | None:
        repository = self.hub.repositories.get((kind, id))
        error = None
        if repository is None:
            error = "RepoNotFound"
        elif repository.token and self.headers.get("Authorization") != f"Bearer {repository.token}":
            error = "GatedRepo"
        elif revision not in (None, "main", repository.commit):
            error = "RevisionNotFound"
        if error is None:
            return repository
        status = HTTPStatus.FORBIDDEN if error == "GatedRepo" else HTTPStatus.NOT_FOUND
        self._send(status, b"{}", {"X-Error-Code": error}, body=body)
        return None

    def _send(
        self, status: HTTPStatus, content: bytes, headers: Mapping[str, str] | None = None, *, body: bool
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub_server() -> Iterator[HubServer]:
    """A hub without repositories."""
    handler = type("Handler", (_Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub = HubServer(f"http://127.0.0.1:{server.server_port}")
    handler.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield hub
    server.shutdown()
    thread.join()
    server.server_close()
