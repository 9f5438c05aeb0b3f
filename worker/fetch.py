"""The stage that downloads from the hub: the only child with a network, and the only one told the hub's token.

It is told on its pipe, not in its environment. It also inspects what it downloads: the bytes are a stranger's.
"""

import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.assets.fetch import fetch
from core.assets.files import FileRecord, HubReference
from core.assets.hub import HubClient
from core.inputs import Input
from core.settings import Settings
from pruning.data.limits import Limits
from pruning.events import Event, Events, ShouldStop
from pruning.spec import Columns
from worker.stage import run_stage

_REPORT_SECONDS = 2.0


def fetch_parameters(
    asset: Input, folder: Path, spec: Mapping[str, Any], settings: Settings
) -> dict[str, Any]:
    """The parameters of the stage for an input that has a hub reference; raises ValueError without one."""
    if asset.hub is None:
        raise ValueError(f"{asset.asset_id} is not to be fetched")
    token = settings.hub_token.get_secret_value() if settings.hub_token else None
    return {
        "endpoint": settings.hub_endpoint,
        "token": token,
        "hub": asdict(asset.hub),
        "files": [asdict(file) for file in asset.files],
        "folder": str(folder),
        "columns": spec.get("columns"),
        "max_rows": settings.max_dataset_rows,
    }


def fetch_stage(parameters: Mapping[str, Any], events: Events, should_stop: ShouldStop) -> dict[str, Any]:
    """Download and inspect; returns what `core.assets.fetch.keep` needs.

    A download cannot be interrupted: a worker that wants this stage to stop kills it after the grace.
    """
    columns = parameters["columns"]
    folder = Path(parameters["folder"])
    files = tuple(FileRecord(**file) for file in parameters["files"])
    with _growth_reported(folder, sum(file.bytes for file in files), events):
        return fetch(
            HubClient(parameters["endpoint"], parameters["token"]),
            HubReference(**parameters["hub"]),
            files,
            folder,
            columns=Columns.model_validate(columns) if columns else None,
            limits=Limits(rows=parameters["max_rows"]),
        )


@contextmanager
def _growth_reported(folder: Path, total: int, events: Events) -> Iterator[None]:
    """Say how much has arrived while the block runs; when nothing arrives, the stall timeout sees it."""
    ended = threading.Event()

    def report() -> None:
        before = -1
        while not ended.wait(_REPORT_SECONDS):
            arrived = _bytes_in(folder)
            if arrived != before:
                before = arrived
                message = f"{arrived / 1e6:,.0f} of {total / 1e6:,.0f} MB from the hub"
                events(Event("progress", {"phase": "fetching", "fraction": 0.0, "message": message}))

    events(Event("phase", {"phase": "fetching"}))
    thread = threading.Thread(target=report, name="growth", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _bytes_in(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        try:
            size += path.lstat().st_size
        except FileNotFoundError:  # moved meanwhile
            continue
    return size


if __name__ == "__main__":
    sys.exit(run_stage(fetch_stage))
