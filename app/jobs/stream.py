"""Events of a job as a page, or as server-sent events that resume by Last-Event-ID."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from fastapi.concurrency import run_in_threadpool

from app.jobs.feed import Feed
from app.jobs.schemas import EventView
from core.errors import DatabaseUnavailable, NotFound

HEARTBEAT_SECONDS = 15.0
_RECONNECT_MILLISECONDS = 2000


@dataclass(frozen=True)
class Batch:
    """Events behind a number; whether there are `more` already, or none will ever follow (`ended`)."""

    events: list[EventView]
    more: bool
    ended: bool


ReadBatch = Callable[[int], Batch]


async def next_batch(read: ReadBatch, feed: Feed, job_id: str, after_seq: int, wait: float) -> Batch:
    """The events behind `after_seq`; when there are none yet, those that come within `wait` seconds."""
    batch = await run_in_threadpool(read, after_seq)
    if batch.events or batch.ended or not wait or not await feed.wait(job_id, after_seq, wait):
        return batch
    return await run_in_threadpool(read, after_seq)


async def server_sent_events(
    read: ReadBatch, feed: Feed, job_id: str, first: Batch, after_seq: int
) -> AsyncIterator[bytes]:
    """The stream of a job's events until it is over; a comment every 15 s keeps a silent connection open.

    No database session outlives a read. When the database or the service goes away the stream ends, and the
    client's next connection goes on behind the last event it has seen.
    """
    yield f"retry: {_RECONNECT_MILLISECONDS}\n\n".encode()
    batch = first
    while True:
        for event in batch.events:
            after_seq = event.seq
            yield encode(event)
        if batch.ended or feed.closed:
            return
        try:
            batch = await next_batch(read, feed, job_id, after_seq, HEARTBEAT_SECONDS)
        except (NotFound, DatabaseUnavailable):
            return
        if not batch.events:
            yield b": still here\n\n"


def encode(event: EventView) -> bytes:
    """One event on the wire: its `seq` is the id that Last-Event-ID gives back."""
    data = json.dumps(event.model_dump(mode="json"), separators=(",", ":"))
    return f"id: {event.seq}\nevent: {event.type}\ndata: {data}\n\n".encode()
