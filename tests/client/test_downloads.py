"""Downloads from a server that breaks off, changes its mind or lies."""

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from client import Artifact, DownloadBroken, Unreachable
from client.downloads import destination, fetch
from client.transport import Transport
from tests.support.server import running

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Answers with `content`; each of the first `breaks` answers ends after `part` bytes."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.breaks = 0
        self.part = 300_000
        self.ranges: list[str | None] = []
        self.links: list[str] = []
        self.keys: list[str | None] = []

    async def answer(self, request: Request) -> Response:
        if self.links:
            return RedirectResponse(self.links.pop(0), 302)
        asked = request.headers.get("range")
        self.keys.append(request.headers.get("authorization"))
        self.ranges.append(asked)
        current = f'"{hashlib.sha256(self.content).hexdigest()}"'
        start = 0
        if asked and request.headers.get("if-range", current) == current:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        rest = self.content[start:]
        headers = {"ETag": current, "Content-Length": str(len(rest))}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        broken = self.breaks > 0
        self.breaks -= broken
        return StreamingResponse(self.pieces(rest, broken), 206 if start else 200, headers=headers)

    async def pieces(self, rest: bytes, broken: bool) -> AsyncIterator[bytes]:
        yield rest[: self.part]
        if broken:
            raise ConnectionResetError("broken off for the test")
        yield rest[self.part :]


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def transport(server: Server) -> Iterator[Transport]:
    routes = [Route("/v1/artifacts/art_1/content", server.answer)]
    with running(Starlette(routes=routes)) as url, Transport(url, "key", retries=2) as transport:
        yield transport


def artifact(sha256: str = SHA256) -> Artifact:
    return Artifact(id="art_1", name="model/x.bin", bytes=len(CONTENT), sha256=sha256, media_type="x/y")


def test_a_broken_download_goes_on_where_it_stopped(
    server: Server, transport: Transport, tmp_path: Path
) -> None:
    server.breaks = 2
    moved: list[int] = []
    fetch(transport, artifact(), tmp_path / "x.bin", lambda _, count: moved.append(count))
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]
    assert len(server.ranges) == 3
    assert server.ranges[0] is None
    assert all(asked and int(asked.split("=")[1].rstrip("-")) > 0 for asked in server.ranges[1:])
    assert sum(moved) == len(CONTENT)


def test_a_later_call_goes_on_from_the_part_file(
    server: Server, transport: Transport, tmp_path: Path
) -> None:
    (tmp_path / "x.bin.part").write_bytes(CONTENT[:1000])
    fetch(transport, artifact(), tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert server.ranges == ["bytes=1000-"]


def test_a_finished_file_is_not_fetched_again(server: Server, transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(CONTENT)
    fetch(transport, artifact(), tmp_path / "x.bin")
    assert server.ranges == []


def test_another_server_gets_the_range_and_no_key(
    server: Server, transport: Transport, tmp_path: Path
) -> None:
    elsewhere = Server()
    (tmp_path / "x.bin.part").write_bytes(CONTENT[:1000])
    with running(Starlette(routes=[Route("/object", elsewhere.answer)])) as url:
        # The first link has expired.
        server.links = [f"{url}/gone", f"{url}/object"]
        fetch(transport, artifact(), tmp_path / "x.bin")
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert (elsewhere.ranges, elsewhere.keys) == (["bytes=1000-"], [None])
    assert server.ranges == []


def test_a_wrong_part_is_thrown_away(server: Server, transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "x.bin.part").write_bytes(b"?" * 1000)
    with pytest.raises(DownloadBroken, match="sha256"):
        fetch(transport, artifact(), tmp_path / "x.bin")
    assert list(tmp_path.iterdir()) == []


def test_other_bytes_under_the_same_id_are_refused(
    server: Server, transport: Transport, tmp_path: Path
) -> None:
    server.content = b"!" * len(CONTENT)
    (tmp_path / "x.bin.part").write_bytes(CONTENT[:1000])
    with pytest.raises(DownloadBroken, match="sha256"):
        fetch(transport, artifact(), tmp_path / "x.bin")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_breaks_off_for_ever_is_given_up(
    server: Server, transport: Transport, tmp_path: Path
) -> None:
    server.breaks, server.part = 100, 0
    with pytest.raises(Unreachable):
        fetch(transport, artifact(), tmp_path / "x.bin")
    assert len(server.ranges) == 3
    assert not (tmp_path / "x.bin").exists()


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "", "..", "a\\..\\x"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DownloadBroken, match="not a path inside"):
        destination(tmp_path, name)


def test_a_name_may_have_folders(tmp_path: Path) -> None:
    assert destination(tmp_path, "model/config.json") == tmp_path / "model" / "config.json"
