"""Raw request bodies on their way into the store: bounded while read, never kept when they break off."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, TypeVar

import anyio
from anyio import from_thread, to_thread
from fastapi import Depends, Header, Request
from starlette.requests import ClientDisconnect

from app.http.body_limit import limit_of
from app.http.digest import promised_sha256
from app.http.problem import Problem
from app.services import Services

SILENCE_SECONDS = 60.0

T = TypeVar("T")


def _promised(
    digest: Annotated[
        str | None,
        Header(
            alias="Content-Digest",
            description="SHA-256 of the body (RFC 9530); other bytes are refused, and nothing of them is kept.",
            examples=["sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"],
        ),
    ] = None,
) -> str | None:
    return promised_sha256(digest)


PromisedSha256 = Annotated[str | None, Depends(_promised)]
"""The SHA-256, in hex, that the request's Content-Digest promises."""


async def store_body(
    request: Request, services: Services, store: Callable[[Iterator[bytes]], T], *, max_bytes: int
) -> T:
    """Let `store`, in a thread of uploads, read the body of `request` and return what it returns.

    Raises 413 at the first byte beyond `max_bytes`, 408 after a minute of silence, and 400 when the client
    leaves: `store` gets the same exception from its chunks.
    """
    limit_of(request.scope).maximum = max_bytes
    body = request.stream()
    return await to_thread.run_sync(lambda: store(_chunks(body)), limiter=services.upload_threads)


def _chunks(body: AsyncIterator[bytes]) -> Iterator[bytes]:
    """The body for a thread that writes it."""
    while chunk := from_thread.run(_next, body):
        yield chunk


async def _next(body: AsyncIterator[bytes]) -> bytes:
    try:
        with anyio.fail_after(SILENCE_SECONDS):
            return await anext(body, b"")
    except TimeoutError:
        raise Problem(408, "upload_stalled", f"No byte came for {SILENCE_SECONDS:.0f} seconds.") from None
    except ClientDisconnect:
        raise Problem(400, "upload_broken_off", "The connection ended before the body did.") from None
