"""The poller that wakes streams, by itself."""

import asyncio
from collections.abc import Sequence

from app.jobs.feed import Feed
from core.errors import DatabaseUnavailable
from core.jobs.heads import Head


class Ledger:
    """Heads of jobs that a test moves; counts how often it is asked, and for what."""

    def __init__(self) -> None:
        self.heads = {"a": Head(1, False), "b": Head(5, False)}
        self.asked: list[list[str]] = []
        self.down = False

    def read(self, job_ids: Sequence[str]) -> dict[str, Head]:
        self.asked.append(list(job_ids))
        if self.down:
            raise DatabaseUnavailable("down")
        return {job_id: self.heads[job_id] for job_id in job_ids if job_id in self.heads}


def test_waiters_share_one_read_and_wake_for_their_own_job() -> None:
    async def scenario() -> None:
        ledger = Ledger()
        feed = Feed(ledger.read, interval=0.01)
        waits = [asyncio.create_task(feed.wait("a", 1, 5)) for _ in range(50)]
        other = asyncio.create_task(feed.wait("b", 5, 5))
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in waits)
        assert all(asked == ["a", "b"] for asked in ledger.asked)
        ledger.heads["a"] = Head(2, False)
        assert await asyncio.gather(*waits) == [True] * 50
        assert not other.done()
        await feed.close()
        assert await other is False
        assert await feed.wait("a", 0, 5) is False

    asyncio.run(scenario())


def test_the_end_of_a_job_and_its_deletion_wake() -> None:
    async def scenario() -> None:
        ledger = Ledger()
        feed = Feed(ledger.read, interval=0.01)
        ledger.heads["a"] = Head(1, True)
        assert await feed.wait("a", 1, 5)
        assert await feed.wait("gone", 1, 5)
        await feed.close()

    asyncio.run(scenario())


def test_waiting_survives_the_database_and_stops_asking_when_nobody_waits() -> None:
    async def scenario() -> None:
        ledger = Ledger()
        feed = Feed(ledger.read, interval=0.01)
        ledger.down = True
        assert await feed.wait("a", 1, 0.1) is False
        assert len(ledger.asked) > 1
        await asyncio.sleep(0.05)
        count = len(ledger.asked)
        await asyncio.sleep(0.05)
        assert len(ledger.asked) == count
        ledger.down, ledger.heads["a"] = False, Head(9, False)
        assert await feed.wait("a", 1, 5)
        await feed.close()

    asyncio.run(scenario())
