"""What is S3's own: servers that fail amid an upload, links, refusals. What every store promises: test_store.py."""

import hashlib
import io
import os
import socket
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from core.artifacts import s3_upload
from core.artifacts.configured import configured_store
from core.artifacts.s3 import S3Store
from core.artifacts.s3_client import TRIES
from core.artifacts.s3_reader import S3Reader
from core.artifacts.store import Stored
from core.errors import NotFound, StorageFull, StoreUnavailable
from core.settings import Settings
from tests.support.s3_server import PART_BYTES, SECRET, Fault, FaultyServer, S3Server

SMALL = b"some bytes" * 5_000
LARGE = os.urandom(2 * PART_BYTES + 3)
NAME = hashlib.sha256(SMALL).hexdigest()

pytestmark = pytest.mark.usefixtures("hasty_s3", "small_parts")


@pytest.fixture
def store(s3_settings: dict[str, Any], faulty_s3: FaultyServer, tmp_path: Path) -> S3Store:
    """A store behind the way that a test can spoil."""
    settings = s3_settings | {
        "s3_endpoint_url": faulty_s3.url,
        "s3_download_url": s3_settings["s3_endpoint_url"],
    }
    return S3Store.from_settings(Settings(data_dir=tmp_path / "data", **settings))


def files(bucket: Path) -> list[str]:
    """The names of the objects in a bucket, as the server keeps them."""
    return sorted(path.name for path in bucket.rglob("*") if path.is_file())


def unfinished(server: S3Server, bucket: Path) -> list[Any]:
    """The uploads in parts that were begun and not ended."""
    client = server.client()
    try:
        return list(client.list_multipart_uploads(Bucket=bucket.name).get("Uploads", []))
    except client.exceptions.NoSuchUpload:  # this server's word for a bucket that never had one
        return []


@pytest.mark.parametrize("fault", ["refuse", "cut request", "lose reply"])
@pytest.mark.parametrize(
    ("content", "method", "part"),
    [(SMALL, "PUT", "sha256"), (LARGE, "PUT", "partNumber=2"), (LARGE, "POST", "uploadId=")],
    ids=["whole", "second part", "completion"],
)
def test_what_fails_twice_is_tried_again(
    store: S3Store,
    faulty_s3: FaultyServer,
    bucket: Path,
    fault: Fault,
    content: bytes,
    method: str,
    part: str,
) -> None:
    faulty_s3.spoil(2, fault, method, part)
    stored = store.put([content])
    assert files(bucket) == [stored.sha256]
    with store.open(stored.sha256) as file:
        assert file.read() == content


@pytest.mark.parametrize("fault", ["refuse", "cut request"])
@pytest.mark.parametrize(("content", "part"), [(SMALL, "sha256"), (LARGE, "partNumber=2")])
def test_a_server_that_goes_on_failing_amid_an_upload_keeps_nothing(
    store: S3Store,
    faulty_s3: FaultyServer,
    s3_server: S3Server,
    bucket: Path,
    tmp_path: Path,
    fault: Fault,
    content: bytes,
    part: str,
) -> None:
    faulty_s3.spoil(1000, fault, "PUT", part)
    with pytest.raises(StoreUnavailable):
        store.put([content])
    assert len([path for method, path in faulty_s3.seen if method == "PUT" and part in path]) == 4
    assert files(bucket) == []
    assert unfinished(s3_server, bucket) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    faulty_s3.fault = lambda method, path: None
    assert store.exists(store.put([content]).sha256)


def test_a_full_bucket_is_said(store: S3Store, faulty_s3: FaultyServer, bucket: Path) -> None:
    faulty_s3.fault = lambda method, path: "full" if method == "PUT" else None
    for act in (lambda: store.put([SMALL]), store.check):
        with pytest.raises(StorageFull):
            act()
    assert files(bucket) == []


def test_a_full_scratch_folder_is_said(s3_settings: dict[str, Any], bucket: Path, small_disk: Path) -> None:
    store = configured_store(Settings(data_dir=small_disk, **s3_settings))
    with pytest.raises(StorageFull):
        store.put([bytes(1 << 20)] * 10)
    assert files(bucket) == files(small_disk) == []
    assert store.put([SMALL]).sha256 == NAME


def test_bytes_that_change_while_they_are_sent_are_not_stored(
    store: S3Store, bucket: Path, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: hashlib.sha256(b"what it was"))
    for content in (SMALL, LARGE):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(StoreUnavailable, match="changed"):
            store.put_file(tmp_path / "file")
    assert files(bucket) == []
    assert unfinished(s3_server, bucket) == []


def test_a_read_goes_on_where_the_connection_broke(store: S3Store, faulty_s3: FaultyServer) -> None:
    stored = store.put([LARGE])
    faulty_s3.spoil(3, "cut reply", "GET", stored.sha256)
    with store.open(stored.sha256, start=5) as file:
        assert file.read() == LARGE[5:]
    assert len([path for method, path in faulty_s3.seen if method == "GET" and stored.sha256 in path]) >= 4


def test_a_read_ends_when_the_server_stays_away(store: S3Store, faulty_s3: FaultyServer) -> None:
    store.put([SMALL])
    with store.open(NAME) as file:
        faulty_s3.fault = lambda method, path: "refuse"
        assert file.read(100) == SMALL[:100]
    with pytest.raises(StoreUnavailable):
        store.open(NAME)


def test_a_read_whose_every_connection_breaks_is_given_up(hasty_s3: None) -> None:
    class Broken:
        closed = 0

        def readinto(self, buffer: Any) -> int:
            raise ReadTimeoutError(endpoint_url="http://s3")

        def close(self) -> None:
            Broken.closed += 1

    asked: list[int] = []
    reader = S3Reader(lambda position: asked.append(position) or Broken(), 7)
    with pytest.raises(StoreUnavailable):
        reader.readinto(bytearray(10))
    assert asked == [7] * TRIES
    assert Broken.closed == TRIES


@pytest.mark.parametrize(
    ("code", "there", "kept"),
    [("NoSuchUpload", True, True), ("NoSuchUpload", False, False), ("Odd", True, False)],
)
def test_a_completion_that_is_refused_counts_only_when_an_earlier_one_was_heard(
    small_parts: None, code: str, there: bool, kept: bool
) -> None:
    class Client:
        aborted = 0

        def __getattr__(self, name: str) -> Any:
            return lambda **_: {"UploadId": "u", "ETag": "e", "ChecksumSHA256": "c"}

        def complete_multipart_upload(self, **_: Any) -> None:
            raise ClientError({"Error": {"Code": code}}, "CompleteMultipartUpload")

        def head_object(self, **_: Any) -> dict[str, int]:
            return {"ContentLength": len(LARGE) if there else 0}

        def abort_multipart_upload(self, **_: Any) -> None:
            self.aborted += 1

    client = Client()
    stored = Stored(hashlib.sha256(LARGE).hexdigest(), len(LARGE))
    with nullcontext() if kept else pytest.raises(ClientError, match=code):
        s3_upload.send(client, "bucket", "key", io.BytesIO(LARGE), stored)
    assert client.aborted == (not kept)


def test_s3_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(sys.modules, "core.artifacts.s3")
    monkeypatch.delitem(sys.modules, "core.artifacts.s3_client")
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(StoreUnavailable, match=r"needs boto3: pip install 'prunery\[s3\]'"):
        configured_store(Settings(data_dir=tmp_path, store_url="s3://bucket"))


def test_uploads_of_writers_that_died_are_aborted_when_old(
    store: S3Store, s3_server: S3Server, bucket: Path
) -> None:
    key = f"some/prefix/sha256/{NAME[:2]}/{NAME}"
    s3_server.client().create_multipart_upload(Bucket=bucket.name, Key=key)
    assert store.discard_unpublished(older_seconds=60) == 0
    assert len(unfinished(s3_server, bucket)) == 1
    assert store.discard_unpublished(older_seconds=0) == 1
    assert unfinished(s3_server, bucket) == []


def test_what_is_being_deleted_is_put_again(store: S3Store, s3_server: S3Server, bucket: Path) -> None:
    """The sweep of another process looked at the object's age just before it was put again."""
    client, notice = s3_server.client(), f"some/prefix/deleting/{NAME}/another"
    client.put_object(Bucket=bucket.name, Key=notice, Body=b"")
    writer = threading.Thread(target=store.put, args=([SMALL],))
    writer.start()
    while not store.exists(NAME):
        pass
    writer.join(0.3)
    assert writer.is_alive()
    client.delete_object(Bucket=bucket.name, Key=f"some/prefix/sha256/{NAME[:2]}/{NAME}")
    client.delete_object(Bucket=bucket.name, Key=notice)
    writer.join(20)
    assert store.exists(NAME)


def test_the_notice_of_a_sweep_that_died_delays_nobody_for_long(
    store: S3Store, s3_server: S3Server, bucket: Path
) -> None:
    notice = f"some/prefix/deleting/{NAME}/dead"
    s3_server.client().put_object(Bucket=bucket.name, Key=notice, Body=b"")
    assert store.discard_unpublished(older_seconds=60) == 0
    s3_server.let_a_day_pass(bucket.name)
    store.put([SMALL])
    assert files(bucket) == sorted([NAME, "dead"])
    assert store.discard_unpublished(older_seconds=60) == 1
    assert files(bucket) == [NAME]


def test_a_link_works_without_a_key_and_for_this_object_only(store: S3Store, s3_server: S3Server) -> None:
    store.put([SMALL])
    link = store.download_url(NAME, filename="model.bin", media_type="application/x-test")
    assert link is not None
    assert link.startswith(s3_server.url)
    assert "X-Amz-Expires=300" in link
    assert SECRET not in link
    reply = httpx.get(link, headers={"Range": "bytes=5-14"})
    assert reply.content == SMALL[5:15]
    assert reply.headers["content-range"] == f"bytes 5-14/{len(SMALL)}"
    assert reply.headers["content-disposition"] == 'attachment; filename="model.bin"'
    assert reply.headers["content-type"] == "application/x-test"
    assert httpx.get(link.replace(NAME, "0" * 64)).status_code == 403
    assert httpx.get(link.replace("Expires=300", "Expires=3000")).status_code == 403


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"s3_secret_access_key": "wrong-secret"}, "SignatureDoesNotMatch"),
        ({"store_url": "s3://no-such-bucket"}, "NoSuchBucket"),
        ({"s3_endpoint_url": "http://127.0.0.1:1"}, "does not answer"),
        ({"s3_region": "not a region"}, "region"),
    ],
)
def test_a_store_that_is_not_there_says_why(
    s3_settings: dict[str, Any], tmp_path: Path, wrong: dict[str, Any], words: str
) -> None:
    settings = Settings(data_dir=tmp_path, **(s3_settings | wrong))
    with pytest.raises(StoreUnavailable, match=words) as raised:
        configured_store(settings).check()
    assert "secret" not in str(raised.value)


def test_a_server_that_says_nothing_is_given_up(s3_settings: dict[str, Any], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        settings = s3_settings | {"s3_endpoint_url": address, "s3_timeout_seconds": 0.1}
        store = configured_store(Settings(data_dir=tmp_path, **settings))
        with pytest.raises(StoreUnavailable, match="timeout"):
            store.check()


def test_only_this_prefix_is_touched(store: S3Store, s3_server: S3Server, bucket: Path) -> None:
    s3_server.client().put_object(Bucket=bucket.name, Key=f"sha256/{NAME[:2]}/{NAME}", Body=SMALL)
    assert not store.exists(NAME)
    assert list(store.objects()) == []
    with pytest.raises(NotFound):
        store.open(NAME)
