"""Identifiers: a prefix that says what it names, and 26 characters that sort by the time they were made."""

import secrets
import time
from typing import Literal

Prefix = Literal["job", "mdl", "dst", "upl", "art", "key", "own", "aud", "whk", "dlv"]

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u


def new_id(prefix: Prefix) -> str:
    """A new identifier such as `job_01j9zq...`: 48 bits of milliseconds, 80 random bits (the ULID layout)."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    digits = (_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))
    return f"{prefix}_{''.join(digits)}"
