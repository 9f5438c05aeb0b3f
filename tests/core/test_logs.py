"""Log lines that a machine can read."""

import json
import logging
import sys

from core.logs import JsonLines


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
