"""The sign of life between two batches: how far the work is, and whether to go on."""

import time
from typing import TYPE_CHECKING

from pruning.errors import Canceled

if TYPE_CHECKING:
    from pruning.methods import Context

_SECONDS = 1.0


class Pulse:
    """Counts work in any unit, says so at most once a second, and raises Canceled when asked to stop."""

    def __init__(self, context: "Context", total: float) -> None:
        self._context = context
        self._total = total
        self._done = 0.0
        self._each = 0.0
        self._message = ""
        self._spoke = -_SECONDS

    def begin(self, message: str, each: float) -> None:
        """From now on one beat is `each` of the work."""
        self._message, self._each = message, each

    def skip(self, work: float) -> None:
        """That much need not be done."""
        self._done += work

    def beat(self) -> None:
        """One more piece is done; raises Canceled."""
        self._done += self._each
        if reason := self._context.should_stop():
            raise Canceled(f"Pruning was stopped ({reason}) {self._message}.")
        now = time.monotonic()
        if now - self._spoke >= _SECONDS:
            self._spoke = now
            self._context.progress(min(1.0, self._done / self._total), self._message)
