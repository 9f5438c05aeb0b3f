"""Uploads and downloads as a person sees them: a bar for each file on a terminal, silence elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from cli.verify import signed_by
from client import Dataset, Manifest, Model, PruneryClient
from client.downloads import Received
from client.manifest import FILE_NAME
from client.selection import dataset_files, model_files


def upload_model(client: PruneryClient, folder: Path, console: Console) -> Model:
    """Upload a model folder, and say which of its files stayed behind."""
    files, skipped = model_files(folder)
    _say_skipped(console, "not part of a model", skipped)
    with _bars(console, _sizes(files)) as moved:
        return client.upload_model(folder, sent=moved)


def upload_dataset(client: PruneryClient, source: Path, console: Console) -> Dataset:
    """Upload a dataset file or folder, and say which files stayed behind."""
    files, skipped = dataset_files(source)
    _say_skipped(console, "not a split of a dataset", skipped)
    with _bars(console, _sizes(files)) as moved:
        return client.upload_dataset(source, sent=moved)


def download(client: PruneryClient, job_id: str, folder: Path, console: Console) -> None:
    """Bring every artifact of a job under a folder, and say who signed them."""
    sizes = {artifact.name: artifact.bytes for artifact in client.artifacts(job_id)}
    with _bars(console, sizes) as moved:
        client.download(job_id, folder, received=moved)
    manifest = Manifest.read((folder / FILE_NAME).read_bytes())
    console.print(signed_by(manifest), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _bars(console: Console, sizes: dict[str, int]) -> Iterator[Received]:
    """One bar for each file, by its size in bytes; yields the callback that moves them."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bars = {name: progress.add_task(name, total=size) for name, size in sizes.items()}
        yield lambda name, count: progress.advance(bars[name], count)


def _sizes(files: dict[str, Path]) -> dict[str, int]:
    return {name: path.stat().st_size for name, path in files.items()}


def _say_skipped(console: Console, why: str, names: tuple[str, ...]) -> None:
    if names:
        line = f"not uploaded, {why}: {', '.join(names)}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
