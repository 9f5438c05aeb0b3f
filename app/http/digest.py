"""Digests of bytes in headers (RFC 9530), of which SHA-256 is spoken here."""

import base64
import binascii
import re

from app.http.problem import FieldError, Problem

_MEMBER = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):\s*")
_SHA256_BYTES = 32


def promised_sha256(header: str | None) -> str | None:
    """The SHA-256, in hex, that a Content-Digest header promises for the body; None without the header.

    Raises Problem 422 for one that is not well formed or names other algorithms only: what cannot be checked is
    not passed over.
    """
    if header is None:
        return None
    members = [_MEMBER.fullmatch(member) for member in header.split(",")]
    found = {member[1]: member[2] for member in members if member is not None}
    if None in members or "sha-256" not in found:
        raise _refusal()
    try:
        digest = base64.b64decode(found["sha-256"], validate=True)
    except binascii.Error:
        raise _refusal() from None
    if len(digest) != _SHA256_BYTES:
        raise _refusal()
    return digest.hex()


def digest_header(sha256: str) -> str:
    """The value of a Repr-Digest header for a SHA-256 in hex."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def _refusal() -> Problem:
    message = (
        "Send Content-Digest as `sha-256=:BASE64:`, the SHA-256 of the body (RFC 9530), or leave it out."
    )
    error = FieldError(pointer="header:Content-Digest", code="invalid_digest", message=message)
    return Problem(422, "invalid_request", message, errors=[error])
