"""The folders of one attempt: `{work}/jobs/{job}/attempts/{number}/` with inputs, results and scratch."""

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

_UNFINISHED = (".draft", ".tmp")
"""Endings of files that were still being written when their attempt died."""


@dataclass(frozen=True)
class AttemptFolder:
    """An attempt writes only here: a predecessor that is not quite dead cannot spoil its successor's work."""

    job: Path
    number: int

    def create(self) -> None:
        """Make the folders, but those of the inputs; raises OSError."""
        for folder in (self.out, self.scratch):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def root(self) -> Path:
        """The attempt's own folder."""
        return self.job / "attempts" / str(self.number)

    @property
    def model(self) -> Path:
        """The folder of the model to prune."""
        return self.root / "inputs" / "model"

    @property
    def teacher(self) -> Path:
        """The folder of the teacher, when it is not the dense model."""
        return self.root / "inputs" / "teacher"

    @property
    def dataset(self) -> Path:
        """The folder of the dataset."""
        return self.root / "inputs" / "dataset"

    def fetched(self, asset_id: str) -> Path:
        """Where the files of an asset are downloaded to on their way into the store."""
        return self.root / "fetched" / asset_id

    @property
    def out(self) -> Path:
        """What the engine writes: deliverables, and its checkpoints under `work/`."""
        return self.root / "out"

    @property
    def scratch(self) -> Path:
        """Temporary files and caches of the attempt's processes, and their working folder."""
        return self.root / "scratch"

    def resume(self) -> int | None:
        """Copy the checkpoints of the newest lower attempt that left any; returns its number.

        Copied, not linked: the attempt they come from may still be running on a machine that lost its lease.
        Whether a step is whole is the engine's own check, by checksums; what is known as a draft stays behind.
        """
        for number in range(self.number - 1, 0, -1):
            source = self.job / "attempts" / str(number) / "out" / "work"
            if _has_files(source):
                shutil.rmtree(self.out / "work", ignore_errors=True)
                shutil.copytree(source, self.out / "work", ignore=_unfinished, copy_function=_copy_if_there)
                return number
        return None

    def discard_inputs(self) -> None:
        """Free what the next attempt makes anew; its checkpoints stay."""
        for folder in (self.root / "inputs", self.root / "fetched", self.scratch):
            shutil.rmtree(folder, ignore_errors=True)

    def discard_job(self) -> None:
        """Remove every attempt of the job; for a job that is over. The sweep removes what this leaves."""
        shutil.rmtree(self.job, ignore_errors=True)


def _has_files(folder: Path) -> bool:
    return any(path.is_file() and path.suffix not in _UNFINISHED for path in folder.rglob("*"))


def _unfinished(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name.endswith(_UNFINISHED) or (Path(folder) / name).is_symlink()}


def _copy_if_there(source: str, target: str) -> str:
    """Copy one file; a predecessor that still runs may have replaced an old checkpoint meanwhile."""
    with contextlib.suppress(FileNotFoundError):
        shutil.copyfile(source, target)
        os.utime(target, ns=(Path(source).stat().st_atime_ns, Path(source).stat().st_mtime_ns))
    return target
