"""Whether the folders take files, and have room for what the limits allow."""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_bytes
from tempfile import TemporaryFile

from cli.doctor.finding import Finding, last_words
from core.artifacts.configured import configured_store
from core.errors import LedgerError
from core.settings import Settings
from core.settings.units import GIB

_BYTES = 4096
_S3_REMEDY = (
    "see that PRUNERY_S3_ENDPOINT_URL answers, that the bucket exists, that this machine's clock is right, and "
    "that the key may list, read, write and delete"
)


def check_storage(settings: Settings) -> Iterator[Finding]:
    """Put an object, read it, delete it; write to the folder of running jobs; look for room."""
    yield _store(settings)
    yield _work(settings.work_dir)
    folders = {"disk of the store": settings.store_dir, "disk of jobs": settings.work_dir}
    if settings.store_url is not None:  # nobody can ask a bucket for its room
        del folders["disk of the store"]
    for name, folder in folders.items():
        with suppress(OSError):  # said above
            yield _room(name, folder, settings)


def _store(settings: Settings) -> Finding:
    content, place = token_bytes(_BYTES), settings.store_url or settings.store_dir
    try:
        store = configured_store(settings)
        stored = store.put([content])
        try:
            with store.open(stored.sha256) as file:
                same = file.read() == content
        finally:
            store.delete(stored.sha256)
    except (OSError, LedgerError) as error:
        folder = (
            f"see that {place} is a folder that this user may write to, with room; or set PRUNERY_STORE_DIR"
        )
        return Finding("store", "fail", last_words(error), _S3_REMEDY if settings.store_url else folder)
    if not same:
        return Finding(
            "store", "fail", "other bytes came out than went in", "examine the disk, or the bucket"
        )
    return Finding("store", "ok", f"{place}: an object was put, read and deleted")


def _work(folder: Path) -> Finding:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with TemporaryFile(dir=folder) as file:
            file.write(bytes(_BYTES))
    except OSError as error:
        remedy = (
            f"see that {folder} is a folder that this user may write to, with room; or set PRUNERY_WORK_DIR"
        )
        return Finding("work folder", "fail", last_words(error), remedy)
    return Finding("work folder", "ok", f"{folder} takes files")


def _room(name: str, folder: Path, settings: Settings) -> Finding:
    free, wanted = shutil.disk_usage(folder).free, settings.max_model_bytes + settings.max_dataset_bytes
    detail = f"{free / GIB:.1f} GiB free"
    if free >= wanted:
        return Finding(name, "ok", detail)
    short = f"{detail}; the largest model and dataset allowed take {wanted / GIB:.1f}"
    return Finding(
        name, "warn", short, "make room, or lower PRUNERY_MAX_MODEL_BYTES and PRUNERY_MAX_DATASET_BYTES"
    )
