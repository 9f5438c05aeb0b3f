"""What happens to a job, as pages, by long-poll, and as a stream over a real connection."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from app.jobs import stream
from app.jobs.feed import Feed
from app.jobs.stream import Batch, ReadBatch, server_sent_events
from app.main import create_app
from core.errors import DatabaseUnavailable, NotFound
from core.jobs.events import NewEvent
from core.jobs.heads import Head
from core.settings import Settings
from tests.app.conftest import Service, problem
from tests.support.server import running


def progress(fraction: float) -> NewEvent:
    return NewEvent("progress", {"fraction": fraction})


def metric(name: str, value: float, step: int) -> NewEvent:
    return NewEvent("metric", {"name": name, "value": value, "step": step})


def test_events_come_in_pages(service: Service) -> None:
    url = service.job()["urls"]["events"]
    claim = service.claim()
    service.tell(claim, *[metric("loss", step / 10, step) for step in range(5)])
    everything = service.client.get(url).json()
    assert [event["seq"] for event in everything["data"]] == list(range(1, 8))
    assert everything["data"][0] | {"at": None} == {
        "seq": 1,
        "type": "status",
        "data": {"status": "queued"},
        "at": None,
    }
    assert everything["has_more"] is False

    seen, after = [], 0
    for _ in range(3):
        page = service.client.get(url, params={"after_seq": after, "limit": 3}).json()
        seen += page["data"]
        after = page["next_after_seq"]
    assert seen == everything["data"]
    assert page["has_more"] is False


def test_a_long_poll_waits_for_the_next_event(service: Service) -> None:
    url = service.job()["urls"]["events"]
    claim = service.claim()
    timer = threading.Timer(0.3, service.tell, (claim, progress(0.5)))
    timer.start()
    began = time.monotonic()
    page = service.client.get(url, params={"after_seq": 2, "wait": 20}).json()
    timer.join()
    assert [event["type"] for event in page["data"]] == ["progress"]
    assert 0.25 < time.monotonic() - began < 10


def test_a_long_poll_ends_without_an_event(service: Service) -> None:
    url = service.job()["urls"]["events"]
    began = time.monotonic()
    page = service.client.get(url, params={"after_seq": 1, "wait": 0.3}).json()
    assert page == {"data": [], "has_more": False, "next_after_seq": 1}
    assert time.monotonic() - began >= 0.3


def test_nobody_waits_for_a_job_that_is_over(service: Service) -> None:
    urls = service.job()["urls"]
    service.client.post(urls["cancel"])
    began = time.monotonic()
    assert service.client.get(urls["events"], params={"after_seq": 2, "wait": 30}).json()["data"] == []
    assert time.monotonic() - began < 10


def test_metrics_are_kept_by_name_and_in_order(service: Service) -> None:
    url = service.job()["urls"]["metrics"]
    assert service.client.get(url).json() == {"latest": {}, "history": []}
    claim = service.claim()
    service.tell(claim, metric("loss", 2.0, 1), progress(0.1), metric("loss", 1.0, 2), metrics={"loss": 1.0})
    shown = service.client.get(url).json()
    assert shown["latest"] == {"loss": 1.0}
    assert [(each["name"], each["value"], each["step"]) for each in shown["history"]] == [
        ("loss", 2.0, 1),
        ("loss", 1.0, 2),
    ]


@pytest.mark.parametrize(
    ("params", "pointer"),
    [({"wait": 31}, "query:wait"), ({"after_seq": -1}, "query:after_seq"), ({"limit": 0}, "query:limit")],
)
def test_bounds(service: Service, params: dict[str, int], pointer: str) -> None:
    reply = service.client.get(service.job()["urls"]["events"], params=params)
    problem(reply, 422, "invalid_request", pointer)


def test_a_kind_that_is_not_offered(service: Service) -> None:
    url = service.job()["urls"]["events"]
    problem(service.client.get(url, headers={"Accept": "image/png"}), 406, "not_acceptable")


def received(response: httpx.Response) -> Iterator[dict[str, str]]:
    """The server-sent events of a response, as their fields."""
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            yield fields
            fields = {}
        else:
            fields = {}


def test_a_stream_follows_a_job_to_its_end_and_goes_on_where_it_broke_off(
    service: Service, settings: Settings
) -> None:
    job_id = service.job()["id"]
    claim = service.claim()
    headers = {"Authorization": f"Bearer {service.key}", "Accept": "text/event-stream"}
    path = f"/v1/jobs/{job_id}/events"
    with running(create_app(settings)) as base, httpx.Client(base_url=base, timeout=20) as client:
        with client.stream("GET", path, headers=headers) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            stream = received(response)
            first = [next(stream), next(stream)]
            service.tell(claim, metric("loss", 1.0, 1))
            first.append(next(stream))
        assert [event["id"] for event in first] == ["1", "2", "3"]
        assert [event["event"] for event in first] == ["status", "status", "metric"]
        assert json.loads(first[2]["data"])["data"]["name"] == "loss"

        with client.stream("GET", path, headers=headers | {"Last-Event-ID": "2"}) as response:
            stream = received(response)
            again = [next(stream)]
            service.finish(claim, {"report.json": b"{}"})
            again += list(stream)
        assert again[0] == first[2]
        assert json.loads(again[-1]["data"])["data"]["status"] == "succeeded"

        last = again[-1]["id"]
        assert client.get(path, headers=headers | {"Last-Event-ID": last}).status_code == 204
        assert client.head(path, headers=headers).status_code == 200


def streamed(read: ReadBatch, first: Batch) -> list[bytes]:
    """All that a stream says of a job that nobody has news of."""

    async def collect() -> list[bytes]:
        feed = Feed(lambda job_ids: {job_id: Head(1, False) for job_id in job_ids}, interval=0.01)
        try:
            return [line async for line in server_sent_events(read, feed, "job_1", first, 1)]
        finally:
            await feed.close()

    return asyncio.run(collect())


@pytest.mark.parametrize("error", [NotFound("deleted"), DatabaseUnavailable("away")])
def test_a_silent_stream_says_that_it_is_there_until_its_job_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.02)
    reads: list[int] = []

    def read(after_seq: int) -> Batch:
        reads.append(after_seq)
        if len(reads) == 3:
            raise error
        return Batch([], more=False, ended=False)

    said = streamed(read, Batch([], more=False, ended=False))
    assert said == [b"retry: 2000\n\n", b": still here\n\n", b": still here\n\n"]
    assert reads == [1, 1, 1]


def test_many_streams_are_one_reader(service: Service, settings: Settings) -> None:
    job_id = service.job()["id"]
    claim = service.claim()
    headers = {"Authorization": f"Bearer {service.key}", "Accept": "text/event-stream"}
    counts: list[int] = []

    def follow(base: str) -> None:
        with httpx.stream("GET", f"{base}/v1/jobs/{job_id}/events", headers=headers, timeout=30) as response:
            counts.append(len(list(received(response))))

    with running(create_app(settings)) as base:
        threads = [threading.Thread(target=follow, args=(base,)) for _ in range(20)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        service.finish(claim, {})
        for thread in threads:
            thread.join(30)
    assert counts == [3] * 20
