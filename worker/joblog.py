"""What the processes of an attempt write to stderr: its last lines, with every secret hidden."""

import threading
from collections import deque

from core.jobs.logs import Tail
from core.logs import redact, secrets_of
from core.settings import Settings

LINE_BYTES = 8192
"""Longest line that is kept whole; of a longer one the beginning."""

_READ_BYTES = 2 * LINE_BYTES
"""How much of a line is read, so that a secret at the end of what is kept is still seen whole."""


class AttemptLog:
    """The tail of one attempt, at most `job_log_bytes` of it; one thread hears, another takes.

    Hidden too is where the worker keeps its files, which is no matter of the owner's.
    """

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.job_log_bytes
        self._secrets = secrets_of(settings)
        self._folder = str(settings.work_dir)
        self._lock = threading.Lock()
        self._lines: deque[bytes] = deque()
        self._kept = 0
        self._dropped = 0
        self._pending = b""
        self._written = 0

    def hear(self, chunk: bytes) -> None:
        """Take in what a process wrote; called by one thread."""
        with self._lock:
            first, *others = chunk.split(b"\n")
            self._more(first)
            for part in others:
                self._end_line()
                self._more(part)

    def close(self) -> None:
        """No more will be heard: a last line that was not finished is one."""
        with self._lock:
            if self._pending:
                self._end_line()

    def news(self) -> Tail | None:
        """The tail when it is longer than what was `written`.

        Of whole lines only: in the first half of a secret nobody sees what it is.
        """
        with self._lock:
            total = self._dropped + self._kept
            text = b"".join(self._lines).decode()
        return Tail(text, total) if total != self._written else None

    def written(self, tail: Tail) -> None:
        """Take note that this tail was committed."""
        self._written = tail.bytes

    def _more(self, part: bytes) -> None:
        self._pending += part[: _READ_BYTES - len(self._pending)]

    def _end_line(self) -> None:
        line = self._readable(self._pending) + b"\n"
        self._pending = b""
        self._lines.append(line)
        self._kept += len(line)
        while self._kept > self._limit:
            oldest = len(self._lines.popleft())
            self._kept -= oldest
            self._dropped += oldest

    def _readable(self, line: bytes) -> bytes:
        """A line as it is kept: text that every database takes, no secret, not too long."""
        text = line.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}").rstrip("\r")
        text = redact(text.replace(self._folder, "..."), *self._secrets)
        return text.encode()[:LINE_BYTES].decode(errors="ignore").encode()
