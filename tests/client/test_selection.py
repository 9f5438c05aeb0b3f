from pathlib import Path

import pytest

from client import LocalFileProblem
from client.selection import dataset_files, model_files


def folder_of(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


def test_only_files_of_a_model_are_taken_and_the_others_are_named(tmp_path: Path) -> None:
    ours = ("config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json", "vocab.txt")
    others = (
        "1_Pooling/config.json",
        "README.md",
        "modules.json",
        "pytorch_model.bin",
        "nested/model.safetensors",
    )
    taken, skipped = model_files(folder_of(tmp_path, *ours, *others))
    assert set(taken) == set(ours)
    assert set(skipped) == set(others)


@pytest.mark.parametrize(
    ("names", "remedy"),
    [
        (("model.safetensors",), "config.json"),
        (("config.json", "pytorch_model.bin"), "save_pretrained"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path, names: tuple[str, ...], remedy: str) -> None:
    with pytest.raises(LocalFileProblem, match=remedy):
        model_files(folder_of(tmp_path, *names))


def test_a_model_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LocalFileProblem, match="not a folder"):
        model_files(tmp_path / "absent")


def test_one_file_is_the_train_split(tmp_path: Path) -> None:
    folder_of(tmp_path, "reviews.csv")
    assert dataset_files(tmp_path / "reviews.csv") == ({"train.csv": tmp_path / "reviews.csv"}, ())


def test_a_folder_gives_its_splits(tmp_path: Path) -> None:
    folder_of(tmp_path, "train.jsonl", "validation.jsonl", "notes.txt", "dev.jsonl")
    taken, skipped = dataset_files(tmp_path)
    assert set(taken) == {"train.jsonl", "validation.jsonl"}
    assert set(skipped) == {"notes.txt", "dev.jsonl"}


def test_files_can_be_given_by_split(tmp_path: Path) -> None:
    folder_of(tmp_path, "a.jsonl", "b.parquet")
    files, _ = dataset_files({"train": tmp_path / "a.jsonl", "test": tmp_path / "b.parquet"})
    assert files == {"train.jsonl": tmp_path / "a.jsonl", "test.parquet": tmp_path / "b.parquet"}


@pytest.mark.parametrize("name", ["absent.jsonl", "notes.txt", "empty"])
def test_what_is_no_dataset_is_refused(tmp_path: Path, name: str) -> None:
    folder_of(tmp_path, "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(LocalFileProblem, match="dataset: "):
        dataset_files(tmp_path / name)
