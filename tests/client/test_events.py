"""Following a job over connections that break and proxies that do not stream."""

import json
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from client import ApiProblem, Unreachable
from client.events import follow, parse_stream
from client.transport import Transport
from tests.support.server import running

LAST = 7


def event(seq: int) -> dict[str, object]:
    return {"seq": seq, "type": "progress", "data": {"fraction": seq / LAST}, "at": "2026-01-01T00:00:00Z"}


class Server:
    """Tells of events 1 to `LAST`; a stream ends, or breaks, after `at_once` of them."""

    def __init__(self) -> None:
        self.at_once = LAST
        self.breaks = False
        self.streams = True
        self.refuses: int | None = None
        self.asked: list[tuple[str, int]] = []

    async def answer(self, request: Request) -> Response:
        if self.refuses:
            body = {"code": "not_found", "detail": "There is no such job."}
            return JSONResponse(body, self.refuses, media_type="application/problem+json")
        if "text/event-stream" in request.headers.get("accept", "") and self.streams:
            after = int(request.headers["last-event-id"])
            self.asked.append(("stream", after))
            return StreamingResponse(self.stream(after), media_type="text/event-stream")
        after = int(request.query_params.get("after_seq", 0))
        self.asked.append(("page", after))
        return JSONResponse(
            {"data": [event(seq) for seq in range(after + 1, self.upto(after))], "has_more": False}
        )

    def upto(self, after: int) -> int:
        return min(after + self.at_once, LAST) + 1

    async def stream(self, after: int) -> AsyncIterator[str]:
        yield "retry: 2000\n\n"
        for seq in range(after + 1, self.upto(after)):
            yield f"id: {seq}\nevent: progress\ndata: {json.dumps(event(seq))}\n\n: still here\n\n"
        if self.breaks:
            raise ConnectionResetError("broken off for the test")

    def over(self) -> bool:
        return bool(self.asked) and self.asked[-1][1] + self.at_once >= LAST


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def transport(server: Server) -> Iterator[Transport]:
    routes = [Route("/v1/jobs/job_1/events", server.answer)]
    with running(Starlette(routes=routes)) as url, Transport(url, "key", retries=1) as transport:
        yield transport


def seqs(transport: Transport, server: Server, after_seq: int = 0) -> list[int]:
    events = follow(transport, "job_1", after_seq=after_seq, over=server.over, patience=5)
    return [event.seq for event in events]


@pytest.mark.parametrize("breaks", [False, True])
def test_every_event_comes_once_over_streams_that_end_early(
    transport: Transport, server: Server, breaks: bool
) -> None:
    server.at_once, server.breaks = 2, breaks
    assert seqs(transport, server) == list(range(1, LAST + 1))
    assert [after for kind, after in server.asked if kind == "stream"][:4] == [0, 2, 4, 6]


def test_it_goes_on_behind_the_event_that_is_given(transport: Transport, server: Server) -> None:
    assert seqs(transport, server, after_seq=4) == [5, 6, 7]


def test_pages_are_asked_for_where_nothing_streams(transport: Transport, server: Server) -> None:
    server.streams, server.at_once = False, 3
    assert seqs(transport, server) == list(range(1, LAST + 1))


def test_a_missing_job_is_no_reason_to_try_another_way(transport: Transport, server: Server) -> None:
    server.refuses = 404
    with pytest.raises(ApiProblem, match="no such job"):
        seqs(transport, server)


def test_a_service_that_is_gone_is_given_up_after_the_patience() -> None:
    with Transport("http://127.0.0.1:9", "key", retries=0) as transport:

        def over() -> bool:
            return bool(transport.request("GET", "/v1/jobs/job_1").json()["over"])

        with pytest.raises(Unreachable):
            list(follow(transport, "job_1", after_seq=0, over=over, patience=0.5))


LINE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))


@given(st.lists(st.lists(LINE, min_size=1, max_size=3), max_size=5))
def test_whatever_is_sent_as_data_is_read_back(events: list[list[str]]) -> None:
    lines = []
    for data in events:
        lines += ["id: 1", ": comment", *(f"data: {line}" for line in data), ""]
    assert list(parse_stream(lines)) == ["\n".join(data) for data in events]
