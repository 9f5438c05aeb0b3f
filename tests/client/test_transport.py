from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from client import ApiProblem, Unreachable
from client.transport import Transport, pause
from tests.support.server import running


class Server:
    """Says "busy" for the first `busy` requests, and remembers every body."""

    def __init__(self) -> None:
        self.busy = 0
        self.refusal = PlainTextResponse("busy", 503, headers={"Retry-After": "0"})
        self.bodies: list[bytes] = []
        self.keys: list[str] = []

    async def answer(self, request: Request) -> Response:
        self.bodies.append(await request.body())
        self.keys.append(request.headers["authorization"])
        if self.busy:
            self.busy -= 1
            return self.refusal
        return PlainTextResponse("done")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def transport(server: Server) -> Iterator[Transport]:
    routes = [Route("/x", server.answer, methods=["PUT"])]
    with running(Starlette(routes=routes)) as url, Transport(url, "secret", retries=2) as transport:
        yield transport


def test_a_busy_service_gets_the_same_body_again(transport: Transport, server: Server) -> None:
    server.busy = 2
    answer = transport.request("PUT", "/x", body=lambda: iter([b"one", b"two"]))
    assert answer.text == "done"
    assert server.bodies == [b"onetwo"] * 3
    assert server.keys == ["Bearer secret"] * 3


def test_a_service_that_stays_busy_is_a_refusal(transport: Transport, server: Server) -> None:
    server.busy = 3
    with pytest.raises(ApiProblem) as caught:
        transport.request("PUT", "/x")
    assert caught.value.status == 503
    assert len(server.bodies) == 3


def test_a_key_that_asks_too_often_waits_and_a_full_quota_is_a_refusal(
    transport: Transport, server: Server
) -> None:
    server.busy, server.refusal = 1, PlainTextResponse("slow down", 429, headers={"Retry-After": "0"})
    assert transport.request("PUT", "/x").text == "done"
    server.busy, server.refusal = 1, PlainTextResponse("full", 429)
    with pytest.raises(ApiProblem) as caught:
        transport.request("PUT", "/x")
    assert caught.value.status == 429
    assert len(server.bodies) == 3


def test_a_refusal_is_not_tried_again(transport: Transport, server: Server) -> None:
    with pytest.raises(ApiProblem) as caught:
        transport.request("DELETE", "/x")
    assert caught.value.status == 405


def test_an_address_where_nobody_listens_is_named() -> None:
    with Transport("http://127.0.0.1:9", "key", retries=1) as transport:
        with pytest.raises(Unreachable, match=r"http://127\.0\.0\.1:9"):
            transport.request("GET", "/x")
        with pytest.raises(Unreachable), transport.stream("/x"):
            pass


@pytest.mark.parametrize(
    ("attempt", "retry_after", "least", "most"),
    [
        (0, None, 0.125, 0.25),
        (3, None, 1, 2),
        (50, None, 5, 10),
        (0, "3", 3, 3),
        (0, "900", 10, 10),
        (0, "soon", 0.1, 1),
    ],
)
def test_pauses_grow_but_stay_bounded(
    attempt: int, retry_after: str | None, least: float, most: float
) -> None:
    assert least <= pause(attempt, retry_after) <= most
