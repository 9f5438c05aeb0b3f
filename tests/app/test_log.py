"""The end of a job's log over HTTP."""

import pytest

from core.jobs import leases, logs
from core.jobs.logs import Tail
from tests.app.conftest import Service, problem

LINES = "".join(f"line {number:04} é\n" for number in range(10_000))


def write(service: Service, text: str = LINES) -> None:
    """One attempt at the next job, handed back."""
    claim = service.claim()
    with service.services.database.write() as session:
        logs.write(session, claim.token.job_id, claim.token.attempt, Tail(text, len(text.encode()) + 5))
        leases.release(session, claim.token, "preempted")


def test_a_job_that_waits_has_an_empty_log(service: Service) -> None:
    reply = service.client.get(service.job()["urls"]["log"])
    assert (reply.status_code, reply.text) == (200, "")
    assert (reply.headers["x-log-attempt"], reply.headers["x-log-bytes"]) == ("0", "0")


def test_the_last_lines_are_plain_text_within_the_limit(service: Service) -> None:
    url = service.job()["urls"]["log"]
    write(service)
    reply = service.client.get(url)
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.headers["x-log-bytes"] == str(len(LINES.encode()) + 5)
    assert len(reply.content) <= 65_536 < len(reply.content) + 20
    assert LINES.endswith(reply.text)
    assert reply.text.startswith("line ")
    assert service.client.get(url, params={"bytes": 40}).text == LINES[-36:]
    assert service.client.get(url, params={"bytes": 2**20}).text == LINES


def test_an_earlier_attempt_can_be_asked_for(service: Service) -> None:
    url = service.job()["urls"]["log"]
    write(service, "first\n")
    write(service, "second\n")
    assert service.client.get(url).text == "second\n"
    assert service.client.get(url, params={"attempt": 1}).text == "first\n"
    problem(service.client.get(url, params={"attempt": 3}), 404, "not_found")


@pytest.mark.parametrize(
    ("query", "pointer"),
    [("bytes=0", "query:bytes"), ("bytes=1048577", "query:bytes"), ("attempt=0", "query:attempt")],
)
def test_limits_that_cannot_be(service: Service, query: str, pointer: str) -> None:
    url = service.job()["urls"]["log"]
    problem(service.client.get(f"{url}?{query}"), 422, "invalid_request", pointer)
