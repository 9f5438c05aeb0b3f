"""Which files of a repository of the hub make a model or a dataset, and what they are called here."""

import re
from collections.abc import Mapping

from core.assets.files import FileRecord
from core.assets.inspect import INDEX, check_file_names
from core.assets.names import MODEL_FILES
from core.errors import InvalidRequest
from pruning.errors import InvalidData

_SPLIT = re.compile(
    r"(?:(?P<folder>[A-Za-z0-9._-]+)/)?(?P<split>train|validation|dev|test)(?P<part>-\d{5}-of-\d{5})?"
    r"\.(?P<suffix>jsonl|csv|parquet)"
)
_PLAIN_FOLDERS = (None, "data")
"""Folders that a dataset without configurations keeps its splits in."""


def model_files(hub_id: str, listed: Mapping[str, FileRecord]) -> tuple[FileRecord, ...]:
    """The files of a model among those of a repository; raises InvalidModel when some are missing."""
    found = {name: file for name, file in listed.items() if MODEL_FILES.fullmatch(name)}
    if "model.safetensors" in found:
        found = {
            name: file for name, file in found.items() if name != INDEX and not name.startswith("model-")
        }
    check_file_names(found)
    return tuple(found[name] for name in sorted(found))


def dataset_files(
    hub_id: str, config: str | None, listed: Mapping[str, FileRecord]
) -> tuple[FileRecord, ...]:
    """One file per split, named as here; raises InvalidRequest or InvalidData when there are others.

    Looked for are `{config}/train-00000-of-00001.parquet`, `data/train-...`, `train.jsonl` and the
    like; without `config`, the only configuration there is.
    """
    folders: dict[str | None, list[re.Match[str]]] = {}
    for path in sorted(listed):
        if match := _SPLIT.fullmatch(path):
            folders.setdefault(match["folder"], []).append(match)
    matches = folders[_folder(hub_id, config, folders)]
    files: dict[str, FileRecord] = {}
    for match in matches:
        split = "validation" if match["split"] == "dev" else match["split"]
        if split in files:
            raise InvalidData(
                f"The split {split} of {hub_id} is more than one file.",
                param="/dataset",
                remedy="Download the split, write it as one file and upload that.",
                code="several_files",
            )
        file = listed[match[0]]
        files[split] = FileRecord(f"{split}.{match['suffix']}", file.bytes, file.sha256, match[0])
    if "train" not in files:
        raise InvalidData(f"{hub_id} has no train split.", param="/dataset", remedy="Name another dataset.")
    return tuple(files[split] for split in sorted(files))


def _folder(hub_id: str, config: str | None, folders: Mapping[str | None, object]) -> str | None:
    if config is not None:
        if config in folders:
            return config
        raise InvalidRequest(
            f"{hub_id} has no configuration {config!r}{_known(folders)}.", param="/dataset/config"
        )
    for plain in _PLAIN_FOLDERS:
        if plain in folders:
            return plain
    if len(folders) == 1:
        return next(iter(folders))
    if not folders:
        raise InvalidData(
            f"{hub_id} has no data files that can be read.",
            param="/dataset",
            remedy="Name one with train.jsonl, train.csv or train.parquet, or the hub's own parts.",
        )
    raise InvalidRequest(
        f"{hub_id} has several configurations{_known(folders)}; name one.", param="/dataset/config"
    )


def _known(folders: Mapping[str | None, object]) -> str:
    names = sorted(name for name in folders if name not in _PLAIN_FOLDERS)
    return f"; it has {', '.join(map(str, names[:20]))}" if names else ""
