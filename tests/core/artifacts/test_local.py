"""What is the folder's own: its files, a full disk, a broken one. What every store promises: test_store.py."""

import errno
import hashlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from core.artifacts.local import LocalStore
from core.errors import StorageFull, StoreUnavailable

CONTENT = b"some bytes" * 100
HASH = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def left_over(store: LocalStore) -> list[Path]:
    return [path for path in store.root.rglob("*") if path.is_file() and path.name != "lock"]


def test_an_object_is_a_file_that_only_its_owner_may_read(store: LocalStore) -> None:
    store.put([CONTENT])
    path = store.path(HASH)
    assert path is not None
    assert path.stat().st_mode & 0o777 == 0o400
    assert store.download_url(HASH, filename="f", media_type="text/plain") is None


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
        "from core.artifacts.local import LocalStore; from core.errors import StorageFull, StoreUnavailable\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try: LocalStore(Path(sys.argv[1])).put([bytes(8000)] * 2)\n"
        "except StorageFull: sys.exit(7)\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)
    done = subprocess.run([sys.executable, "-c", code, str(store.root)], cwd=Path(__file__).parents[3])
    assert done.returncode == 7
    assert left_over(store) == []


def test_half_written_files_of_dead_writers_are_discarded_when_old(store: LocalStore) -> None:
    for name in ("old", "new"):
        (store.root / "incoming" / name).write_bytes(b"half")
    os.utime(store.root / "incoming" / "old", (0, 0))
    assert store.discard_unpublished(older_seconds=60) == 1
    assert [path.name for path in left_over(store)] == ["new"]


@pytest.mark.parametrize(
    ("number", "raised"),
    [(errno.EIO, StoreUnavailable), (errno.ESTALE, StoreUnavailable), (errno.EPERM, PermissionError)],
)
def test_a_disk_that_fails_is_said_and_nothing_is_left_over(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch, number: int, raised: type[Exception]
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, "broken")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(raised, match="broken"):
        store.put([CONTENT])
    assert left_over(store) == []
