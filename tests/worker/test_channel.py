"""What is no message is refused with its first words, so that nothing is guessed."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from worker.channel import (
    LINE_LIMIT,
    BrokenChannel,
    Order,
    Outcome,
    Receiver,
    decode,
    encode,
    order_message,
    outcome_message,
    read_order,
    read_outcome,
)


def test_an_order_and_an_outcome_arrive_as_they_were_sent() -> None:
    order = Order({"spec": {}, "out": "o"}, 2**30)
    outcome = Outcome("failed", None, "invalid_data", "user", "No.", "/dataset")
    assert read_order(decode(encode(order_message(order)))) == order
    assert read_outcome(decode(encode(outcome_message(outcome)))) == outcome


@pytest.mark.parametrize(
    ("read", "message", "reason"),
    [
        (read_order, {"stop": "cancel"}, r"expected an order, got \['stop'\]"),
        (read_order, {"order": {"unknown": 1}}, r"expected an order, got \['order'\]"),
        (read_outcome, {"event": {}}, r"expected an outcome, got \['event'\]"),
        (read_outcome, {"outcome": []}, r"expected an outcome, got \['outcome'\]"),
    ],
)
def test_another_message_is_not_taken_for_it(
    read: Callable[[Mapping[str, Any]], object], message: dict[str, Any], reason: str
) -> None:
    with pytest.raises(BrokenChannel, match=reason):
        read(message)


@pytest.mark.parametrize(("line", "reason"), [(b"[1]", "not an object"), (b"{", "not JSON")])
def test_a_line_is_a_json_object(line: bytes, reason: str) -> None:
    with pytest.raises(BrokenChannel, match=reason):
        decode(line)


def test_a_line_without_end_is_cut_off() -> None:
    reading, writing = os.pipe()
    receiver = Receiver(reading)
    piece = b"x" * 2**15
    with os.fdopen(reading), os.fdopen(writing, "wb", buffering=0) as pipe:
        for _ in range(LINE_LIMIT // len(piece)):
            pipe.write(piece)
            assert receiver.read() == []
        pipe.write(b"x")
        with pytest.raises(BrokenChannel, match=f"more than {LINE_LIMIT} bytes"):
            receiver.read()
