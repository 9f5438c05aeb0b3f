"""Log lines that a machine can read."""

import json
import logging
import sys
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path
from threading import Thread

import pytest

from core.accounts.keys import make_key
from core.logs import JsonLines, configure_logging, log_about
from core.settings import Settings
from core.webhooks.signing import make_secret


def test_a_record_is_one_json_object() -> None:
    try:
        raise ValueError("broken\nin two lines")
    except ValueError:
        record = logging.LogRecord("worker", logging.ERROR, "", 1, "job %s", ("one",), sys.exc_info())
    record.created = 0.5
    line = JsonLines().format(record)
    assert "\n" not in line
    parsed = json.loads(line)
    assert "ValueError: broken" in parsed.pop("traceback")
    assert parsed == {
        "at": "1970-01-01T00:00:00.500Z",
        "level": "ERROR",
        "logger": "worker",
        "message": "job one",
    }


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_names_what_it_is_about_also_from_a_thread() -> None:
    record = logging.LogRecord("worker", logging.INFO, "", 1, "news", None, None)
    lines: list[str] = []

    def note() -> None:
        lines.append(JsonLines().format(record))

    with log_about(job_id="job_1"):
        with log_about(attempt=2):
            note()
            thread = Thread(target=copy_context().run, args=(note,))
            thread.start()
            thread.join()
        note()
    note()
    about = [{name: line.get(name) for name in ("job_id", "attempt")} for line in map(json.loads, lines)]
    inner = {"job_id": "job_1", "attempt": 2}
    assert about == [inner, inner, {"job_id": "job_1", "attempt": None}, {"job_id": None, "attempt": None}]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_reaches_the_log(
    log_format: str, root: logging.Logger, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a message, in its arguments, and in the text of an exception."""
    key, token, hub = make_key(), "my own mirror's token", "hf_" + "aB3" * 11
    secret = make_secret()
    settings = {"data_dir": tmp_path, "hub_token": token, "log_format": log_format}
    configure_logging(Settings.model_validate(settings))
    urls = "redis://:opensesame@redis:6379/0 and postgresql+psycopg://me:opensesame@db/prunery?a=b"
    try:
        raise ValueError(f"{urls} refused {hub}")
    except ValueError:
        logging.getLogger("anybody").exception("Bearer %s, token %s, %s, %s", key, token, urls, secret)
    said = capsys.readouterr().err
    assert not any(hidden in said for hidden in (key, token, hub, secret, "opensesame"))
    assert "redis://:***@redis:6379/0 and postgresql+psycopg://me:***@db/prunery?a=b" in said
    assert "ValueError" in said
    if log_format == "json":
        assert "prn_live_***" in json.loads(said)["message"]
