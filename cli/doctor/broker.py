"""Whether a ring goes into the broker and comes out again."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from cli.doctor.finding import Finding, last_words
from core.queues import broker_options
from core.settings import Settings

_SECONDS = 5.0


def check_broker(settings: Settings) -> Iterator[Finding]:
    """Send a message through a queue of our own, that no worker reads and that is gone afterwards."""
    remedy = "start the broker, or set PRUNERY_BROKER_URL; jobs are accepted and found without it, only later"
    try:
        began = time.monotonic()
        _round_trip(settings)
    except Exception as error:  # whatever a transport can raise
        yield Finding("broker", "fail", f"{type(error).__name__}: {last_words(error)}", remedy)
    else:
        milliseconds = (time.monotonic() - began) * 1000
        yield Finding("broker", "ok", f"a ring went through in {milliseconds:.0f} ms")


def _round_trip(settings: Settings) -> None:
    from kombu import Connection  # takes its time, which no other command need wait for

    name, options = f"prunery-doctor-{token_hex(6)}", broker_options(settings)
    if "control_folder" not in options:
        options |= {"socket_timeout": _SECONDS, "socket_connect_timeout": 2.0, "max_retries": 0}
    try:
        with Connection(settings.broker_url, transport_options=options, connect_timeout=2) as connection:
            _send_and_receive(connection, name)
    finally:
        if "control_folder" in options:  # kombu empties the file of an exchange, and leaves it there
            Path(options["control_folder"], f"{name}.exchange").unlink(missing_ok=True)


def _send_and_receive(connection: Any, name: str) -> None:
    with connection.SimpleQueue(name, no_ack=True, serializer="json") as ring:
        try:
            ring.put({})
            if ring.get(timeout=_SECONDS).payload != {}:
                raise ValueError("another message came out than went in")
        finally:
            with suppress(Exception):  # the error that led here says more
                ring.queue.delete()
