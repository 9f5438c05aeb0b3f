"""What a job says while it works, and how it hears that it should stop."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pruning.errors import Canceled
from pruning.events import Event, Events, Phase, ShouldStop, StopReason

_SECONDS_BETWEEN_EVENTS = 1.0
_LOADING = 0.02


class Progress:
    """The progress of a job of several steps, and the seconds that each phase took."""

    def __init__(self, events: Events, should_stop: ShouldStop) -> None:
        self.events = events
        self.should_stop = should_stop
        self.seconds: dict[str, float] = {}
        self._spans = {"load": (0.0, _LOADING)}
        self._phase: Phase = "loading"
        self._span = (0.0, 0.0)
        self._fraction = 0.0
        self._told = 0.0

    def lay_out(self, shares: Mapping[str, float]) -> None:
        """Say which steps follow the loading, in order, and how long each is against the others."""
        whole, start = sum(shares.values()), _LOADING
        for name, share in shares.items():
            end = start + (1 - _LOADING) * share / whole
            self._spans[name] = (start, end)
            start = end

    @property
    def span(self) -> tuple[float, float]:
        """The part (start, end) of the whole job that the current step has."""
        return self._span

    @contextmanager
    def step(self, name: str, phase: Phase) -> Iterator[None]:
        """Enter a step: says so, stops here when asked to, and adds its time to its phase."""
        self._phase, self._span = phase, self._spans[name]
        started = time.monotonic()
        self.events(Event("phase", {"phase": phase, "step": name}))
        self.tell(0.0)
        self.check()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - started

    def tell(self, fraction: float) -> None:
        """Say how far the current step is, 0..1."""
        self._fraction = fraction
        self._told = time.monotonic()
        start, end = self._span
        whole = start + (end - start) * fraction
        self.events(Event("progress", {"phase": self._phase, "fraction": whole, "message": self._phase}))

    def at(self, fraction: float) -> None:
        """Note how far the current step is; says so at most once a second."""
        self._fraction = fraction
        self.beat()

    def beat(self) -> StopReason | None:
        """Give a sign of life at most once a second; returns what `should_stop` says."""
        if time.monotonic() - self._told >= _SECONDS_BETWEEN_EVENTS:
            self.tell(self._fraction)
        return self.should_stop()

    def check(self) -> None:
        """Give a sign of life; raises Canceled when asked to stop."""
        if self.beat() is not None:
            raise Canceled(f"Stopped while {self._phase}.")
