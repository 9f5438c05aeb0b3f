"""How much body a request may have, counted while it is read, with or without a Content-Length."""

from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LIMIT = "prunery.body_limit"


@dataclass
class Limit:
    """The most bytes that this request's body may have; a route for uploads raises it for itself."""

    maximum: int
    seen: int = 0

    def check(self, count: int) -> None:
        """Raise 413 when `count` bytes are too many."""
        if count > self.maximum:
            detail = f"The body has more than the {self.maximum} bytes that are allowed here."
            raise HTTPException(413, detail)


def limit_of(scope: Scope) -> Limit:
    """The limit of the request in progress."""
    limit = scope[_LIMIT]
    assert isinstance(limit, Limit)  # noqa: S101 - set by BodyLimit for every request
    return limit


class BodyLimit:
    """ASGI middleware that stops reading a body at its limit."""

    def __init__(self, app: ASGIApp, maximum: int) -> None:
        self._app = app
        self._maximum = maximum

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = Limit(self._maximum)
        declared = Headers(scope=scope).get("content-length", "")

        async def bounded() -> Message:
            if declared.isdecimal():
                limit.check(int(declared))
            message = await receive()
            if message["type"] == "http.request":
                limit.seen += len(message.get("body", b""))
                limit.check(limit.seen)
            return message

        await self._app({**scope, _LIMIT: limit}, bounded, send)
