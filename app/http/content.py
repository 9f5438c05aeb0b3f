"""Stored bytes as a response: conditional, in part, or as headers alone."""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import BinaryIO

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response, StreamingResponse

from app.http.conditional import matches, range_applies, strong
from app.http.digest import digest_header
from app.http.envelope import is_head
from app.http.problem import Problem
from app.http.ranges import ByteRange, Unsatisfiable, parse_range

CHUNK = 256 * 1024


@dataclass(frozen=True)
class Content:
    """Immutable bytes that `sha256` names; `open(start)` reads from there, `filename` is what to save as.

    `elsewhere()` is the address of another server that sends them, or None.
    """

    sha256: str
    bytes: int
    media_type: str
    filename: str
    open: Callable[[int], BinaryIO]
    elsewhere: Callable[[], str | None]


def content_response(request: Request, content: Content) -> Response:
    """Answer GET or HEAD for `content`, honouring If-None-Match, Range and If-Range.

    Where another server has the bytes GET is sent there, and HEAD still told what they are.
    """
    etag = strong(content.sha256)
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Repr-Digest": digest_header(content.sha256)}
    headers |= attachment(content.filename)
    if matches(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    if not is_head(request.scope) and (address := content.elsewhere()) is not None:
        return RedirectResponse(address, 302, headers={"Cache-Control": "no-store"})
    part = _part(request, content, etag)
    status, span = (200, ByteRange(0, content.bytes - 1)) if part is None else (206, part)
    if part is not None:
        headers["Content-Range"] = f"bytes {part.start}-{part.end}/{content.bytes}"
    headers["Content-Length"] = str(span.length)
    if is_head(request.scope):
        return Response(status_code=status, headers=headers, media_type=content.media_type)
    body = _bytes(content, span)
    return StreamingResponse(body, status, headers=headers, media_type=content.media_type)


def attachment(filename: str) -> dict[str, str]:
    """Headers that make a browser save the reply, never show it."""
    return {
        "Content-Disposition": f'attachment; filename="{safe_name(filename)}"',
        "X-Content-Type-Options": "nosniff",
    }


def safe_name(filename: str) -> str:
    """A name that needs no quoting in a header."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", filename)


def _part(request: Request, content: Content, etag: str) -> ByteRange | None:
    if not range_applies(request.headers.get("if-range"), etag):
        return None
    try:
        return parse_range(request.headers.get("range"), content.bytes)
    except Unsatisfiable as error:
        headers = {"Content-Range": f"bytes */{content.bytes}"}
        raise Problem(
            416, "range_not_satisfiable", f"The range covers no byte: {error}.", headers=headers
        ) from None


async def _bytes(content: Content, span: ByteRange) -> AsyncIterator[bytes]:
    file = await run_in_threadpool(content.open, span.start)
    try:
        async for chunk in read_exactly(file, span.length):
            yield chunk
    finally:
        file.close()


async def read_exactly(file: BinaryIO, length: int) -> AsyncIterator[bytes]:
    """The next `length` bytes of a file, in pieces; raises EOFError when it is shorter."""
    while length > 0:
        chunk = await run_in_threadpool(file.read, min(CHUNK, length))
        if not chunk:
            raise EOFError("The stored object is shorter than its record.")
        length -= len(chunk)
        yield chunk
