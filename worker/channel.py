"""What a worker and its child say to each other: one JSON object per line, over the child's own pipes.

Down (the child's stdin): first one order, later perhaps a stop. Up (the child's stdout): events, then one
outcome. The end of the downward pipe means that the worker is dead.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pruning.errors import ErrorClass
from pruning.events import StopReason

LINE_LIMIT = 1 << 20
"""Bytes of one message. An event is a few hundred bytes; anything near the limit is a fault."""

_CHUNK = 1 << 16


class BrokenChannel(Exception):
    """The other side sent something that is no message."""


@dataclass(frozen=True)
class Order:
    """The one thing a child is told to do. `parameters` belong to the stage that runs in the child."""

    parameters: Mapping[str, Any]
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How the child's work ended. A failure carries the error in the words of `pruning.errors`."""

    status: Literal["done", "stopped", "failed"]
    result: Any = None
    code: str = ""
    error_class: ErrorClass = "bug"
    message: str = ""
    param: str = ""


def order_message(order: Order) -> dict[str, Any]:
    """The order as a message; `read_order` is its inverse."""
    return {"order": asdict(order)}


def read_order(message: Mapping[str, Any]) -> Order:
    """The order in a message; raises BrokenChannel for anything else."""
    try:
        return Order(**message["order"])
    except (KeyError, TypeError) as error:
        raise BrokenChannel(f"expected an order, got {sorted(message)}") from error


def stop_message(reason: StopReason) -> dict[str, Any]:
    """Ask the child to leave: `cancel` at once, `preempt` after a checkpoint."""
    return {"stop": reason}


def outcome_message(outcome: Outcome) -> dict[str, Any]:
    """The outcome as a message; `read_outcome` is its inverse."""
    return {"outcome": asdict(outcome)}


def read_outcome(message: Mapping[str, Any]) -> Outcome:
    """The outcome in a message; raises BrokenChannel for anything else."""
    try:
        return Outcome(**message["outcome"])
    except (KeyError, TypeError) as error:
        raise BrokenChannel(f"expected an outcome, got {sorted(message)}") from error


def encode(message: Mapping[str, Any]) -> bytes:
    """One line. Raises ValueError for NaN and infinity: they are no JSON."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message of one line; raises BrokenChannel when it is not a JSON object."""
    try:
        message = json.loads(line)
    except ValueError as error:
        raise BrokenChannel(f"not JSON: {line[:80]!r}") from error
    if not isinstance(message, dict):
        raise BrokenChannel(f"not an object: {line[:80]!r}")
    return message


class Receiver:
    """Cuts what arrives at a non-blocking descriptor into messages."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._pending = b""
        self.ended = False

    def read(self) -> list[dict[str, Any]]:
        """Every whole message that is there now. Raises BrokenChannel for a line that is none."""
        messages: list[dict[str, Any]] = []
        while not self.ended and (chunk := self._chunk()) is not None:
            self.ended = chunk == b""
            *lines, self._pending = (self._pending + chunk).split(b"\n")
            messages.extend(decode(line) for line in lines)
            if len(self._pending) > LINE_LIMIT:
                raise BrokenChannel(f"a message of more than {LINE_LIMIT} bytes")
        return messages

    def _chunk(self) -> bytes | None:
        try:
            return os.read(self._descriptor, _CHUNK)
        except BlockingIOError:
            return None
