"""The folders of attempts, and what of them is published."""

from pathlib import Path

from core.artifacts.local import LocalStore
from worker.attempt import smaller_batches
from worker.folder import AttemptFolder
from worker.publish import publish


def write(path: Path, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_only_regular_files_outside_work_are_published(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("model/config.json", "model/model.safetensors", "README.md", "work/step/state.bin"):
        write(out / name, name)
    (tmp_path / "secret").write_text("secret")
    (out / "link").symlink_to(tmp_path / "secret")
    (out / "model" / "folder").symlink_to(tmp_path)
    records = publish(out, LocalStore(tmp_path / "store"))
    assert [(record.name, record.media_type) for record in records] == [
        ("README.md", "text/markdown"),
        ("model/config.json", "application/json"),
        ("model/model.safetensors", "application/octet-stream"),
    ]
    assert [record.bytes for record in records] == [9, 17, 23]


def test_checkpoints_are_copied_without_drafts_and_links(tmp_path: Path) -> None:
    first, second = (AttemptFolder(tmp_path / "job", number) for number in (1, 2))
    write(first.out / "work/key/step/manifest.json", "{}")
    write(first.out / "work/key/.step.draft/half")
    write(first.out / "work/key/.state.draft")
    (first.out / "work/key/link").symlink_to(tmp_path)
    second.create()
    write(second.out / "work/stale")
    assert second.resume() == 1
    copied = {p.relative_to(second.out).as_posix() for p in second.out.rglob("*") if p.is_file()}
    assert copied == {"work/key/step/manifest.json"}
    (second.out / "work/key/step/manifest.json").write_text("changed")
    assert (first.out / "work/key/step/manifest.json").read_text() == "{}"


def test_the_first_attempt_has_nothing_to_go_on_from(tmp_path: Path) -> None:
    folder = AttemptFolder(tmp_path / "job", 1)
    folder.create()
    assert folder.resume() is None


def test_the_next_attempt_finds_checkpoints_but_no_inputs(tmp_path: Path) -> None:
    folder = AttemptFolder(tmp_path / "job", 1)
    folder.create()
    for name in ("inputs/model/config.json", "scratch/tmp/file", "out/work/step/manifest.json"):
        write(folder.root / name)
    folder.discard_inputs()
    assert [p.relative_to(folder.root).as_posix() for p in folder.root.rglob("*") if p.is_file()] == [
        "out/work/step/manifest.json"
    ]
    folder.discard_job()
    assert not folder.job.exists()


def test_batches_shrink_wherever_the_spec_names_them() -> None:
    spec = {"finetune": {"batch_size": 32, "epochs": 1}, "settings": {"batch_size": 1}, "recover": None}
    assert smaller_batches(spec, 1) == {
        "finetune": {"batch_size": 16, "epochs": 1},
        "settings": {"batch_size": 1},
        "recover": None,
    }
    assert smaller_batches(spec, 0) == spec


def test_every_device_keeps_a_row_of_a_smaller_batch() -> None:
    spec = {"devices": 4, "finetune": {"batch_size": 12}, "recover": {"batch_size": 4}, "settings": {}}
    smaller = smaller_batches(spec, 1)
    assert (smaller["finetune"], smaller["recover"]) == ({"batch_size": 4}, {"batch_size": 4})
    assert smaller_batches(spec, 0) == spec
