"""The phases of a job's process as parts of its trace: told by its events, so that the process itself sends nothing."""

from core.tracing import Span, begin
from pruning.events import Event


class Phases:
    """A span for each phase that a process announces, from there to the next one, or to its end."""

    def __init__(self) -> None:
        self._current = Span()

    def tell(self, event: Event) -> None:
        """Begin the next phase when the event is one."""
        if event.type == "phase":
            self._current.end()
            phase = str(event.data.get("phase"))
            self._current = begin(f"phase {phase}", phase=phase, step=str(event.data.get("step", phase)))

    def close(self) -> None:
        """The process is over, and with it its last phase."""
        self._current.end()
