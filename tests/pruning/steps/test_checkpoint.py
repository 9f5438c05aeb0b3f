import pytest

from pruning.steps.checkpoint import (
    Steps,
    atomic_folder,
    checkpoint_path,
    key_of,
    newest_checkpoint,
    write_atomic,
)


def fill(folder):
    (folder / "weights.bin").write_bytes(bytes(range(100)))


@pytest.fixture
def steps(tmp_path):
    found = Steps(tmp_path / "work", "key")
    found.save("prune", {"kept": [1, 2]}, fill)
    return found


def test_a_step_is_done_when_it_was_written(steps):
    assert not steps.done("export")
    assert steps.done("prune")
    assert steps.load("prune") == {"kept": [1, 2]}
    assert (steps.path("prune") / "weights.bin").stat().st_size == 100


def test_a_step_of_another_request_is_not_done(steps):
    assert not Steps(steps.folder, "other").done("prune")


@pytest.mark.parametrize("name", ["weights.bin", "result.json", "manifest.json"])
@pytest.mark.parametrize("length", [0, 5])
def test_a_torn_file_undoes_a_step(steps, name, length):
    path = steps.path("prune") / name
    path.write_bytes(path.read_bytes()[:length])
    assert not steps.done("prune")


def test_a_missing_or_changed_file_undoes_a_step(steps):
    path = steps.path("prune") / "weights.bin"
    path.write_bytes(bytes(100))
    assert not steps.done("prune")
    path.unlink()
    assert not steps.done("prune")


def test_a_failed_step_leaves_nothing_and_keeps_the_old(steps):
    def fail(folder):
        fill(folder)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        steps.save("prune", {"kept": []}, fail)
    assert steps.load("prune") == {"kept": [1, 2]}
    assert [path.name for path in steps.folder.iterdir()] == ["prune"]


def test_the_newest_whole_checkpoint_is_found(tmp_path):
    for step in (9, 10, 100):
        with atomic_folder(checkpoint_path(tmp_path, step), "key") as folder:
            fill(folder)
    assert newest_checkpoint(tmp_path, "key") == tmp_path / "checkpoint-100"
    (tmp_path / "checkpoint-100" / "weights.bin").write_bytes(b"torn")
    assert newest_checkpoint(tmp_path, "key") == tmp_path / "checkpoint-10"
    assert newest_checkpoint(tmp_path, "other") is None


def test_write_atomic_replaces(tmp_path):
    path = tmp_path / "report.json"
    write_atomic(path, "one")
    write_atomic(path, b"two")
    assert path.read_text() == "two"
    assert [found.name for found in tmp_path.iterdir()] == ["report.json"]


def test_keys_depend_on_content_not_order():
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})
    assert key_of("ab", "c") != key_of("a", "bc")
