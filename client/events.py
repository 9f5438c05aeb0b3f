"""Following a job: server-sent events, and long-polling where a stream does not get through."""

import time
from collections.abc import Callable, Iterable, Iterator

from client.errors import ApiProblem, Unreachable
from client.replies import Event, Page
from client.transport import Transport, pause

_LONG_POLL_SECONDS = 30
_NO_STREAM_HERE = frozenset({404, 406, 501})


class _NotAStream(Exception):
    """The address answers, but not with server-sent events (a proxy may have buffered or rewritten them)."""


def follow(
    transport: Transport, job_id: str, *, after_seq: int, over: Callable[[], bool], patience: float
) -> Iterator[Event]:
    """Every event after `after_seq`, once each and in order, until `over()` says that nothing follows.

    A broken connection is opened again after the last event seen; Unreachable is raised when that has failed
    for `patience` seconds.
    """
    path = f"/v1/jobs/{job_id}/events"
    read = _stream
    answered, breaks = time.monotonic(), 0
    while True:
        try:
            for event in read(transport, path, after_seq):
                after_seq, breaks = event.seq, 0
                yield event
        except _NotAStream:
            read = _poll
            continue
        except Unreachable:
            time.sleep(pause(breaks))
            breaks += 1
        try:
            finished = over()
            answered = time.monotonic()
        except Unreachable:
            if time.monotonic() - answered > patience:
                raise
            continue
        if finished:
            yield from _rest(transport, path, after_seq)
            return


def parse_stream(lines: Iterable[str]) -> Iterator[str]:
    """The data of each server-sent event; its id and name are left out, because the data repeats them."""
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield "\n".join(data)
            data = []


def _stream(transport: Transport, path: str, after_seq: int) -> Iterator[Event]:
    headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after_seq)}
    try:
        with transport.stream(path, headers=headers) as response:
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise _NotAStream
            for data in parse_stream(response.iter_lines()):
                yield Event.model_validate_json(data)
    except ApiProblem as problem:
        if problem.status in _NO_STREAM_HERE and problem.code != "not_found":
            raise _NotAStream from problem
        raise


def _poll(transport: Transport, path: str, after_seq: int) -> Iterator[Event]:
    yield from _page(transport, path, after_seq, wait=_LONG_POLL_SECONDS).data


def _rest(transport: Transport, path: str, after_seq: int) -> Iterator[Event]:
    while page := _page(transport, path, after_seq, wait=0).data:
        yield from page
        after_seq = page[-1].seq


def _page(transport: Transport, path: str, after_seq: int, *, wait: int) -> Page[Event]:
    response = transport.request(
        "GET", path, params={"after_seq": after_seq, "wait": wait}, timeout=wait + 30.0
    )
    return Page[Event].model_validate_json(response.content)
