"""Stored files as a folder for as long as they are inspected."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from app.services import Services
from core.assets.files import FileRecord
from core.inputs import materialise


@contextmanager
def laid_out(services: Services, files: Sequence[FileRecord]) -> Iterator[Path]:
    """A folder with these files, gone at the end; links to the store where possible."""
    work_dir = services.settings.work_dir
    work_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="inspect-", dir=work_dir) as scratch:
        folder = Path(scratch) / "files"
        materialise(services.store, files, folder)
        yield folder
