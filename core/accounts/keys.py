"""API keys: made of 32 random bytes and a checksum, shown once, and kept as their SHA-256."""

import hashlib
import secrets
import string
import zlib

PREFIX = "prn_live_"
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_BODY, _CHECK = 43, 6


def make_key() -> str:
    """A new key; by its checksum a scanner can tell a key, and we a slip of the pen, without a database."""
    body = PREFIX + _base62(int.from_bytes(secrets.token_bytes(32)), _BODY)
    return body + _checksum(body)


def is_well_formed(key: str) -> bool:
    """Whether the text has the form of a key and its checksum is right."""
    if len(key) != len(PREFIX) + _BODY + _CHECK or not key.startswith(PREFIX) or not key.isascii():
        return False
    return secrets.compare_digest(key[-_CHECK:], _checksum(key[:-_CHECK]))


def hash_key(key: str) -> str:
    """What is stored of a key. Its 256 random bits need no slow hash."""
    return hashlib.sha256(key.encode()).hexdigest()


def public_part(key: str) -> str:
    """The beginning of a key, by which a person tells keys apart."""
    return key[: len(PREFIX) + 6]


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))
