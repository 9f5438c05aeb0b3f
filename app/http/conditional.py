"""Entity tags and the preconditions built on them (RFC 9110 section 13)."""

import re

_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


def strong(value: str) -> str:
    """The strong entity tag of `value`."""
    return f'"{value}"'


def matches(header: str | None, etag: str) -> bool:
    """Whether an If-None-Match header names `etag`, by weak comparison; `*` names every tag."""
    if header is None:
        return False
    if header.strip() == "*":
        return True
    return any(tag.removeprefix("W/") == etag.removeprefix("W/") for tag in _TAG.findall(header))


def range_applies(if_range: str | None, etag: str) -> bool:
    """Whether a Range may be honoured: without If-Range, or when it holds exactly this strong tag.

    A date never applies: stored objects have no modification date that means anything.
    """
    return if_range is None or (if_range.strip() == etag and not etag.startswith("W/"))
