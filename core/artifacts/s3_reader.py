"""Reading an object of S3 from beginning to end, whatever becomes of the connection."""

import io
import time
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError

from core.artifacts.s3_client import TRIES, failures_told

_CHUNK = 1 << 20
_PAUSE_SECONDS = 0.2


class S3Reader(io.RawIOBase):
    """The bytes that `get(position)` gives from there on; asked again where a connection broke off."""

    def __init__(self, get: Callable[[int], Any], start: int) -> None:
        self._get = get
        self._position = start
        self._body = get(start)

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes, 0 at the end; raises StoreUnavailable when no connection brings any."""
        attempt = 1
        while True:
            try:
                count = int(self._body.readinto(buffer))
            except BotoCoreError:
                self._body.close()
                if attempt == TRIES:
                    with failures_told():
                        raise
                time.sleep(_PAUSE_SECONDS * 2**attempt)
                self._body = self._get(self._position)
                attempt += 1
            else:
                self._position += count
                return count

    def close(self) -> None:
        """Let go of the connection."""
        self._body.close()
        super().close()


def buffered(reader: S3Reader) -> io.BufferedReader:
    """The same in large reads."""
    return io.BufferedReader(reader, _CHUNK)
