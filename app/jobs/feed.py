"""News of jobs for those who wait: one poller per process, however many streams it serves."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fastapi.concurrency import run_in_threadpool

from core.errors import DatabaseUnavailable
from core.jobs.heads import Head

_log = logging.getLogger(__name__)

ReadHeads = Callable[[Sequence[str]], dict[str, Head]]
"""Where each of these jobs stands; jobs that no longer exist are left out."""


@dataclass(eq=False)
class _Waiter:
    job_id: str
    after_seq: int
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Feed:
    """Wakes waiters when their job has news; it asks for all of them in one short read while any wait."""

    def __init__(self, read_heads: ReadHeads, interval: float = 0.5) -> None:
        self._read_heads = read_heads
        self._interval = interval
        self._waiters: set[_Waiter] = set()
        self._poller: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether the service is stopping, so that streams should end."""
        return self._closed

    async def wait(self, job_id: str, after_seq: int, timeout: float) -> bool:
        """Wait for an event behind `after_seq` or the job's end; False after `timeout` seconds without."""
        if self._closed:
            return False
        waiter = _Waiter(job_id, after_seq)
        self._waiters.add(waiter)
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll(), name="feed")
        try:
            await asyncio.wait_for(waiter.woken.wait(), timeout)
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return not self._closed

    async def close(self) -> None:
        """Let everybody go."""
        self._closed = True
        for waiter in self._waiters:
            waiter.woken.set()
        if self._poller is not None:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    async def _poll(self) -> None:
        while self._waiters:
            await asyncio.sleep(self._interval)
            wanted = sorted({waiter.job_id for waiter in self._waiters})
            try:
                heads = await run_in_threadpool(self._read_heads, wanted)
            except DatabaseUnavailable as error:
                _log.warning("%s Streams wait until it does.", error.message)
                continue
            for waiter in self._waiters:
                head = heads.get(waiter.job_id)
                if head is None or head.over or head.event_seq > waiter.after_seq:
                    waiter.woken.set()
