"""The tail of an attempt: bounded, whole lines, no secret, whatever the process writes."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.jobs import logs
from core.jobs.states import Status
from core.settings import Settings
from tests.support.workers import Workplace, until
from worker.joblog import LINE_BYTES, AttemptLog
from worker.supervisor import Supervisor

LIMIT = 4096


def make_log() -> AttemptLog:
    return AttemptLog(Settings(data_dir=Path("/srv/prunery"), job_log_bytes=LIMIT, hub_token="the-token"))


def text_of(log: AttemptLog) -> str:
    tail = log.news()
    return "" if tail is None else tail.text


def test_lines_come_in_any_pieces_and_the_last_may_be_unfinished() -> None:
    log = make_log()
    for piece in (b"one\ntw", b"o\nthr", b"ee"):
        log.hear(piece)
    assert text_of(log) == "one\ntwo\n"
    log.close()
    assert text_of(log) == "one\ntwo\nthree\n"


def test_only_the_end_is_kept_in_whole_lines_and_all_is_counted() -> None:
    log = make_log()
    for number in range(1000):
        log.hear(f"line {number:04}\n".encode())
    tail = log.news()
    assert tail is not None
    assert len(tail.text.encode()) <= LIMIT
    assert tail.text.endswith("line 0998\nline 0999\n")
    assert tail.text.startswith("line ")
    assert tail.bytes == 10_000


def test_what_was_written_is_no_news() -> None:
    log = make_log()
    assert log.news() is None
    log.hear(b"one\n")
    tail = log.news()
    assert tail is not None
    log.written(tail)
    assert log.news() is None
    log.hear(b"two\n")
    assert text_of(log) == "one\ntwo\n"


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (b"key prn_live_abc123", "key prn_live_***"),
        (b"hub hf_abcdefghij", "hub hf_***"),
        (b"given the-token here", "given *** here"),
        (b"redis://user:word@host/0", "redis://user:***@host/0"),
        (b"/srv/prunery/work/jobs/job_1/out", ".../jobs/job_1/out"),
        (b"nul \0 and \xff\r", "nul \N{REPLACEMENT CHARACTER} and \N{REPLACEMENT CHARACTER}"),
    ],
)
def test_secrets_folders_and_what_no_database_takes_are_hidden(said: bytes, kept: str) -> None:
    log = make_log()
    for byte in said:  # also when it comes byte by byte
        log.hear(bytes([byte]))
    assert text_of(log) == ""  # half a secret is not known for one
    log.hear(b"\n")
    assert text_of(log) == kept + "\n"


def test_of_an_endless_line_the_beginning_is_kept() -> None:
    log = AttemptLog(Settings(job_log_bytes=2**20))
    for _ in range(100):
        log.hear(b"x" * 1000)
    log.hear(b"\nnext\n")
    assert text_of(log) == "x" * LINE_BYTES + "\nnext\n"


def test_a_secret_across_the_end_of_what_is_kept_of_a_line_is_hidden() -> None:
    log = AttemptLog(Settings(job_log_bytes=2**20))
    log.hear(b"x" * (LINE_BYTES - 20) + b" prn_live_" + b"s" * 40 + b"\n")
    assert "ss" not in text_of(log)


@given(st.lists(st.binary(max_size=300), max_size=60))
def test_any_bytes_are_bounded_text(chunks: list[bytes]) -> None:
    log = make_log()
    for chunk in chunks:
        log.hear(chunk)
    log.close()
    tail = log.news()
    assert tail is None or (len(tail.text.encode()) <= LIMIT and "\0" not in tail.text)


def test_a_running_job_shows_its_lines_and_keeps_them_when_it_is_over(
    place: Workplace, make_supervisor: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.heartbeat.LOG_SECONDS", 0.2)
    job_id = place.submit("one", steps=1000)
    preempted = threading.Event()
    thread = threading.Thread(target=make_supervisor().work, args=(preempted.is_set,))
    thread.start()
    until(lambda: "INFO job: metric name=loss" in kept(place, job_id), 20, lambda: "the first lines")
    assert "INFO job: phase phase=pruning\n" in kept(place, job_id)
    assert kept(place, job_id).count("progress") == 1
    preempted.set()
    thread.join(20)
    assert f"name=loss value={1.0 / (1 + len(place.steps('one')) - 1)}" in kept(place, job_id)


def test_the_last_words_of_a_child_that_crashed_are_kept(
    place: Workplace, make_supervisor: Callable[..., Supervisor]
) -> None:
    job_id = place.submit("one", mode="exit")
    make_supervisor().work(lambda: False)
    assert place.job(job_id).status == Status.FAILED
    assert kept(place, job_id).endswith("last words\n")


def kept(place: Workplace, job_id: str) -> str:
    with place.database.read() as session:
        return logs.read(session, place.owner_id, job_id, attempt=None, limit=10**6).text
