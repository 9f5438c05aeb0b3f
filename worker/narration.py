"""What the engine says while it works, as lines of the job's log."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from pruning.events import Event

log = logging.getLogger("job")

PROGRESS_SECONDS = 10.0
"""Least time between two lines of progress."""


class Narrator:
    """Writes a line for an event; of progress only now and then."""

    def __init__(self) -> None:
        self._progress_at = float("-inf")

    def tell(self, event: Event) -> None:
        """One event as one line."""
        data = event.data
        if event.type == "warning":
            log.warning("%s: %s", data.get("code"), data.get("message"))
        elif event.type == "progress":
            self._tell_progress(data)
        else:
            log.info("%s %s", event.type, _pairs(data))

    def _tell_progress(self, data: Mapping[str, Any]) -> None:
        if time.monotonic() < self._progress_at + PROGRESS_SECONDS:
            return
        self._progress_at = time.monotonic()
        rest = {name: value for name, value in data.items() if name != "fraction"}
        log.info("progress %.1f %% %s", 100 * (data.get("fraction") or 0.0), _pairs(rest))


def _pairs(data: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in data.items() if value not in (None, ""))
