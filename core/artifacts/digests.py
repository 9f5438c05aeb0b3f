"""Bytes that are measured on their way into the store, and refused before it has them whole."""

import hashlib
from collections.abc import Iterable, Iterator

from core.errors import InvalidRequest


class Measured:
    """Passes chunks on; at their end it knows their number of bytes and SHA-256, and compares both.

    Raises InvalidRequest `wrong_part_size` or `digest_mismatch` in place of the end, so that a store which reads
    them keeps nothing.
    """

    def __init__(self, chunks: Iterable[bytes], *, bytes: int | None = None, sha256: str | None = None):
        self._chunks = chunks
        self._expected_bytes = bytes
        self._expected_sha256 = sha256
        self._digest = hashlib.sha256()
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._digest.update(chunk)
            self.bytes += len(chunk)
            yield chunk
        self._compare()

    @property
    def sha256(self) -> str:
        """The SHA-256 of what has passed."""
        return self._digest.hexdigest()

    def _compare(self) -> None:
        if self._expected_bytes not in (None, self.bytes):
            message = (
                f"{self._expected_bytes:,} bytes were to come, and {self.bytes:,} came; send them again."
            )
            raise InvalidRequest(message, code="wrong_part_size")
        if self._expected_sha256 not in (None, self.sha256):
            message = (
                f"The SHA-256 of what came is {self.sha256}, promised was {self._expected_sha256}: bytes were changed "
                "on the way, or the promise is wrong; send them again."
            )
            raise InvalidRequest(message, code="digest_mismatch")
