"""The store keeps objects whole or not at all, also on a full disk."""

import errno
import hashlib
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.artifacts.local import LocalStore
from core.errors import NotFound, StorageFull, TooLarge

CONTENT = b"some bytes" * 100
HASH = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, where this process may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("may not mount a file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def left_over(store: LocalStore) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file() and path.name != "lock"]


def test_an_object_is_named_by_its_hash_and_read_from_anywhere(store: LocalStore) -> None:
    stored = store.put([CONTENT[:10], b"", CONTENT[10:]])
    assert (stored.sha256, stored.bytes) == (HASH, len(CONTENT))
    with store.open(HASH) as file:
        assert file.read() == CONTENT
    with store.open(HASH, start=995) as file:
        assert file.read() == CONTENT[995:]
    path = store.path(HASH)
    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o400
    assert list(store.objects()) == [HASH]
    assert store.exists(HASH)


def test_files_are_copied(store: LocalStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    assert store.put_file(tmp_path / "file").sha256 == HASH
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_what_is_not_published_leaves_nothing_behind(store: LocalStore) -> None:
    with store.writer() as writer:
        writer.write(CONTENT)
    assert left_over(store) == []

    def broken() -> Iterator[bytes]:
        yield CONTENT
        raise ConnectionError("the client went away")

    with pytest.raises(ConnectionError):
        store.put(broken())
    assert left_over(store) == []


def test_too_many_bytes_are_refused_while_they_come(store: LocalStore) -> None:
    seen = []

    def endless() -> Iterator[bytes]:
        while True:
            seen.append(1)
            yield bytes(100)

    with pytest.raises(TooLarge):
        store.put(endless(), max_bytes=1000)
    assert len(seen) == 11
    assert left_over(store) == []


def test_a_full_disk_is_said_and_nothing_is_left_over(small_disk: Path) -> None:
    store = LocalStore(small_disk / "store")
    with pytest.raises(StorageFull):
        store.put([bytes(100_000)] * 20)
    assert left_over(store) == []
    assert store.put([CONTENT]).sha256 == HASH
    store.check()
    (small_disk / "filler").write_bytes(
        bytes(os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize)
    )
    with pytest.raises(StorageFull):
        store.check()
    assert store.exists(HASH)


def test_a_limit_on_file_sizes_is_a_full_disk(store: LocalStore) -> None:
    # In a process of its own: the limit cannot be raised again.
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from core.artifacts.local import LocalStore; from core.errors import StorageFull\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try: LocalStore(Path(sys.argv[1])).put([bytes(8000)] * 2)\n"
        "except StorageFull: sys.exit(7)\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)
    done = subprocess.run([sys.executable, "-c", code, str(store.root)], cwd=Path(__file__).parents[3])
    assert done.returncode == 7
    assert left_over(store) == []


@pytest.mark.parametrize(
    "name", ["", "../lock", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n", "/etc/passwd"]
)
def test_names_that_are_not_hashes_reach_no_file(store: LocalStore, name: str) -> None:
    for act in (store.open, store.path, store.exists, store.delete):
        with pytest.raises(NotFound):
            act(name)


def test_an_object_that_is_not_there_is_not_found(store: LocalStore) -> None:
    with pytest.raises(NotFound):
        store.open("0" * 64)
    assert store.path("0" * 64) is None
    assert not store.delete("0" * 64)


def test_deleting_spares_what_was_put_again(store: LocalStore) -> None:
    store.put([CONTENT])
    path = store.path(HASH)
    assert path is not None
    os.utime(path, (0, 0))
    store.put([CONTENT])
    assert not store.delete(HASH, unused_seconds=60)
    os.utime(path, (0, 0))
    assert store.delete(HASH, unused_seconds=60)
    assert not store.exists(HASH)


def test_half_written_files_of_dead_writers_are_discarded_when_old(store: LocalStore) -> None:
    for name in ("old", "new"):
        (store.root / "incoming" / name).write_bytes(b"half")
    os.utime(store.root / "incoming" / "old", (0, 0))
    assert store.discard_unpublished(older_seconds=60) == 1
    assert [path.name for path in left_over(store)] == ["new"]


def test_the_same_object_may_be_put_and_swept_at_once(store: LocalStore) -> None:
    barrier = threading.Barrier(4)

    def put(_: int) -> bool:
        barrier.wait()
        present = []
        for _ in range(20):
            store.put([CONTENT])
            present.append(store.exists(HASH))
            store.delete(HASH, unused_seconds=60)
        return all(present)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(put, range(4)))
    assert [path.name for path in left_over(store)] == [HASH]


def test_other_errors_of_the_disk_are_not_hidden(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="broken"):
        store.put([CONTENT])
    assert left_over(store) == []
