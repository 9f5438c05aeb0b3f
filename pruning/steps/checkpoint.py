"""Results on disk that a crash cannot tear: written beside their place, checksummed, then renamed."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
_RESULT = "result.json"


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_of(*parts: Any) -> str:
    """A sha256 over JSON values: equal requests have equal keys."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_atomic(path: Path, content: bytes | str) -> None:
    """Replace a file as a whole: whoever reads it sees the old or the new content, also after a power cut."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_bytes(content if isinstance(content, bytes) else content.encode())
    _sync(draft)
    draft.replace(path)
    _sync(path.parent)


@contextmanager
def atomic_folder(path: Path, key: str) -> Iterator[Path]:
    """Give a folder to fill; when the block ends well it becomes `path`, with a manifest of its checksums.

    A folder that was there before is replaced. After an exception nothing is left.
    """
    draft = path.with_name(f".{path.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        files = {str(file.relative_to(draft)): file_sha256(file) for file in _files(draft)}
        (draft / MANIFEST).write_text(json.dumps({"key": key, "files": files}, indent=1))
        for file in _files(draft):
            _sync(file)
        shutil.rmtree(path, ignore_errors=True)
        draft.replace(path)
        _sync(path.parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def is_whole(folder: Path, key: str) -> bool:
    """Whether `atomic_folder` wrote this folder for `key` and no file is missing, cut or changed."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return manifest["key"] == key and all(
            file_sha256(folder / name) == digest for name, digest in manifest["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


class Steps:
    """The finished steps of a job, each a folder with a JSON result and files.

    A step counts only when it was written whole and for the same `key`; anything else is ignored and redone.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.key = key

    def path(self, name: str) -> Path:
        """Where the files of a step lie."""
        return self.folder / name

    def done(self, name: str) -> bool:
        """Whether the step is finished."""
        return is_whole(self.path(name), self.key)

    def load(self, name: str) -> dict[str, Any]:
        """The JSON result of a finished step."""
        result: dict[str, Any] = json.loads((self.path(name) / _RESULT).read_text())
        return result

    def save(self, name: str, result: dict[str, Any], fill: Callable[[Path], None] | None = None) -> Path:
        """Write a step's result, and its files by `fill(folder)`; returns the folder."""
        with atomic_folder(self.path(name), self.key) as folder:
            if fill is not None:
                fill(folder)
            (folder / _RESULT).write_text(json.dumps(result, indent=1))
        return self.path(name)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the training checkpoint of an optimizer step lies."""
    return folder / f"checkpoint-{step}"


def checkpoint_step(path: Path) -> int:
    """The optimizer step of a training checkpoint."""
    return int(path.name.rpartition("-")[2])


def checkpoints(folder: Path) -> list[Path]:
    """The training checkpoints of a folder, newest first."""
    return sorted(folder.glob("checkpoint-*"), key=checkpoint_step, reverse=True)


def newest_checkpoint(folder: Path, key: str) -> Path | None:
    """The newest training checkpoint that is whole and was written for `key`."""
    return next((path for path in checkpoints(folder) if is_whole(path, key)), None)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
