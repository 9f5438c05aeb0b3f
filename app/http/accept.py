"""Choosing what to send by the Accept header (RFC 9110 section 12.5.1)."""

from collections.abc import Sequence

from app.http.problem import Problem


def choose(header: str | None, offers: Sequence[str]) -> str:
    """The offer that the header likes best, the first among equals; raises Problem 406 when it likes none."""
    ranges = [_media_range(part) for part in (header or "*/*").split(",") if part.strip()]
    best = max(offers, key=lambda offer: _quality(offer, ranges))
    if _quality(best, ranges) <= 0:
        raise Problem(406, "not_acceptable", f"This address can send {' or '.join(offers)}.")
    return best


def _media_range(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip() for piece in part.lower().split(";"))
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                return name, float(value)
            except ValueError:
                return name, 0.0
    return name, 1.0


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality of the most specific range that covers the offer."""
    for pattern in (offer, f"{offer.partition('/')[0]}/*", "*/*"):
        found = [quality for name, quality in ranges if name == pattern]
        if found:
            return max(found)
    return 0.0
