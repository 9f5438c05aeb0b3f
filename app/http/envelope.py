"""What every exchange has: a request id, safe headers, HEAD beside GET, and an answer even to a fault."""

import logging
import re
import secrets
from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http.problem import Problem
from core.logs import log_about

_REQUEST_ID = "prunery.request_id"
_HEAD = "prunery.head"
_HEADERS = "prunery.headers"
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_log = logging.getLogger(__name__)


def request_id(scope: Scope) -> str:
    """The id of the request: the client's own X-Request-ID when it is a plain token, else a fresh one."""
    return str(scope[_REQUEST_ID])


def is_head(scope: Scope) -> bool:
    """Whether the client asked for the headers alone, so that a streaming route need not start its stream."""
    return bool(scope.get(_HEAD))


def add_headers(scope: Scope, headers: Mapping[str, str]) -> None:
    """Put headers on the reply to this request, whatever it will be."""
    scope[_HEADERS].update(headers)


class Envelope:
    """ASGI middleware, outermost: names the request, answers HEAD through GET, sets headers of every reply.

    An exception that nobody handled becomes a 500 problem that says nothing of the inside; the log does.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        offered = Headers(scope=scope).get("x-request-id", "")
        name = offered if _ACCEPTABLE.fullmatch(offered) else f"req_{secrets.token_hex(8)}"
        head = scope["method"] == "HEAD"
        headers: dict[str, str] = {}
        inner = {
            **scope,
            _REQUEST_ID: name,
            _HEAD: head,
            _HEADERS: headers,
            "method": "GET" if head else scope["method"],
        }
        reply = _Reply(send, name, headers, head=head)
        with log_about(request_id=name):
            try:
                await self._app(inner, receive, reply.send)
            except Exception:
                _log.exception("Request %s: %s %s failed.", name, scope["method"], scope["path"])
                if reply.started:
                    raise
                detail = f"The service failed; its log tells more under the request id {name}."
                await Problem(500, "internal_error", detail).response(name)(inner, receive, reply.send)


class _Reply:
    """The way back to the client, with the headers that every reply has."""

    def __init__(self, send: Send, request_id: str, headers: Mapping[str, str], *, head: bool) -> None:
        self._send = send
        self._request_id = request_id
        self._headers = headers
        self._head = head
        self.started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            headers.update(self._headers)
            headers["X-Request-ID"] = self._request_id
            headers["X-Content-Type-Options"] = "nosniff"
            headers.setdefault("Cache-Control", "private, no-cache")
        elif self._head and message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await self._send(message)
