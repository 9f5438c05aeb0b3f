"""The stage that downloads, beside what tests of the hub show: what it is asked, and how it counts what arrived."""

from pathlib import Path

import pytest

from core.inputs import Input
from core.settings import Settings
from worker import fetch


def test_what_lies_in_the_store_is_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mdl_1 is not to be fetched"):
        fetch.fetch_parameters(Input("mdl_1", ()), tmp_path, {}, Settings(data_dir=tmp_path))


def test_a_file_that_is_moved_while_it_is_counted_counts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "part").mkdir()
    for name, size in (("a", 10), ("part/b", 5)):
        (tmp_path / name).write_bytes(bytes(size))
    folder = (tmp_path / "part").lstat().st_size
    assert fetch._bytes_in(tmp_path) == 15 + folder
    found = [tmp_path / "a", tmp_path / "moved", tmp_path / "part/b"]
    monkeypatch.setattr(Path, "rglob", lambda self, pattern: iter(found))
    assert fetch._bytes_in(tmp_path) == 15
