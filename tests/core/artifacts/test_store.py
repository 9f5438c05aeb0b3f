"""What every store promises: a folder and a bucket of a real S3 server, judged by the same tests."""

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.artifacts.configured import configured_store
from core.artifacts.store import Store
from core.errors import NotFound, TooLarge
from core.settings import Settings
from tests.support.s3_server import PART_BYTES, S3Server

CONTENT = b"some bytes" * 100
HASH = hashlib.sha256(CONTENT).hexdigest()


class Place:
    """A store, and the folder where its files can be seen."""

    def __init__(self, settings: Settings, files: Path, server: S3Server | None) -> None:
        self.store = configured_store(settings)
        self._folders = (files, settings.work_dir)
        self._server = server

    def left_over(self) -> list[Path]:
        """Every file but the lock."""
        return [
            path
            for folder in self._folders
            for path in folder.rglob("*")
            if path.is_file() and path.name != "lock"
        ]

    def make_old(self) -> None:
        """Let a day pass for what is there."""
        if self._server:
            self._server.let_a_day_pass(self._folders[0].name)
        else:
            for path in self.left_over():
                os.utime(path, (0, 0))


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty store of each kind."""
    if request.param == "folder":
        settings = Settings(data_dir=tmp_path / "data")
        return Place(settings, settings.store_dir, None)
    server = request.getfixturevalue("s3_server")
    bucket = server.make_bucket()
    return Place(Settings(data_dir=tmp_path / "data", **server.settings(bucket.name)), bucket, server)


@pytest.fixture
def store(place: Place) -> Store:
    return place.store


def test_an_object_is_named_by_its_hash_and_read_from_anywhere(store: Store) -> None:
    stored = store.put([CONTENT[:10], b"", CONTENT[10:]])
    assert (stored.sha256, stored.bytes) == (HASH, len(CONTENT))
    with store.open(HASH) as file:
        assert file.read() == CONTENT
    for start in (1, 995, 1000, 2000):
        with store.open(HASH, start=start) as file:
            assert file.read() == CONTENT[start:]
    assert list(store.objects()) == [HASH]
    assert store.exists(HASH)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("size", [0, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 5])
def test_objects_of_every_size(place: Place, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    for stored in (place.store.put([content]), place.store.put_file(tmp_path / "file")):
        assert (stored.sha256, stored.bytes) == (sha256, size)
    with place.store.open(sha256) as file:
        assert file.read() == content
    assert (tmp_path / "file").read_bytes() == content
    assert [path.name for path in place.left_over()] == [sha256]


def test_what_is_not_published_leaves_nothing_behind(place: Place) -> None:
    with place.store.writer() as writer:
        writer.write(CONTENT)
    assert place.left_over() == []

    def broken() -> Iterator[bytes]:
        yield CONTENT
        raise ConnectionError("the client went away")

    with pytest.raises(ConnectionError):
        place.store.put(broken())
    assert place.left_over() == []


def test_too_many_bytes_are_refused_while_they_come(place: Place) -> None:
    seen = []

    def endless() -> Iterator[bytes]:
        while True:
            seen.append(1)
            yield bytes(100)

    with pytest.raises(TooLarge):
        place.store.put(endless(), max_bytes=1000)
    assert len(seen) == 11
    assert place.left_over() == []


@pytest.mark.parametrize(
    "name", ["", "../lock", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n", "/etc/passwd"]
)
def test_names_that_are_not_hashes_reach_nothing(store: Store, name: str) -> None:
    for act in (store.open, store.path, store.exists, store.delete):
        with pytest.raises(NotFound):
            act(name)


def test_an_object_that_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        store.open("0" * 64)
    assert store.path("0" * 64) is None
    assert not store.exists("0" * 64)
    assert not store.delete("0" * 64)


def test_deleting_spares_what_was_put_again(place: Place) -> None:
    place.store.put([CONTENT])
    place.make_old()
    place.store.put([CONTENT])
    assert not place.store.delete(HASH, unused_seconds=60)
    place.make_old()
    assert place.store.delete(HASH, unused_seconds=60)
    assert not place.store.exists(HASH)
    assert place.left_over() == []


def test_the_same_object_may_be_put_and_swept_at_once(place: Place) -> None:
    barrier = threading.Barrier(4)

    def put(_: int) -> bool:
        barrier.wait()
        present = []
        for _ in range(8):
            place.store.put([CONTENT])
            present.append(place.store.exists(HASH))
            place.store.delete(HASH, unused_seconds=60)
        return all(present)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(put, range(4)))


def test_a_store_that_can_be_written_to_is_left_as_it_was(place: Place) -> None:
    place.store.check()
    assert place.left_over() == []
