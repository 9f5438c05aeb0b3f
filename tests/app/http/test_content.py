"""What is read of an object is what was promised, or an error."""

import asyncio
import io

import pytest

from app.http.content import read_exactly


def read(content: bytes, length: int) -> bytes:
    async def collect() -> bytes:
        return b"".join([chunk async for chunk in read_exactly(io.BytesIO(content), length)])

    return asyncio.run(collect())


def test_no_more_is_read_than_was_asked_for() -> None:
    assert read(b"abcdef", 4) == b"abcd"
    assert read(b"abcdef", 0) == b""


def test_an_object_that_is_too_short_is_an_error() -> None:
    with pytest.raises(EOFError, match="shorter than its record"):
        read(b"abc", 4)
