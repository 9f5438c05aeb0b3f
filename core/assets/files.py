"""What is known of the files of models and datasets."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from core.db.base import Json


@dataclass(frozen=True)
class FileRecord:
    """A file of an asset: name, size in bytes, hash; of the hub's files also the path in the repository."""

    name: str
    bytes: int
    sha256: str | None
    hub_path: str | None = None


@dataclass(frozen=True)
class HubReference:
    """A repository of the hub at one commit."""

    kind: Literal["model", "dataset"]
    id: str
    revision: str


@dataclass(frozen=True)
class HubModelInfo:
    """A model of the hub: the resolved commit, its config.json, and the files a job needs."""

    hub_id: str
    revision: str
    config: Json
    model_type: str
    files: tuple[FileRecord, ...]


@dataclass(frozen=True)
class HubDatasetInfo:
    """A dataset of the hub: the resolved commit, the configuration if it has any, one file per split."""

    hub_id: str
    config: str | None
    revision: str
    files: tuple[FileRecord, ...]


def digest(files: Iterable[FileRecord]) -> str:
    """One hash of all files: SHA-256 over the lines `sha256 name`, ordered by name."""
    lines = (f"{file.sha256} {file.name}\n" for file in sorted(files, key=lambda file: file.name))
    return hashlib.sha256("".join(lines).encode()).hexdigest()
