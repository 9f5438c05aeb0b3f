"""Reading headers: what is acceptable, which tags match, where a field error points."""

from typing import Any

import pytest

from app.http.accept import choose
from app.http.conditional import matches, range_applies
from app.http.pointers import pointer_into
from app.http.problem import Problem

JSON, STREAM = "application/json", "text/event-stream"


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        (None, JSON),
        ("", JSON),
        ("*/*", JSON),
        (STREAM, STREAM),
        ("text/*", STREAM),
        (f"{JSON};q=0.5, {STREAM}", STREAM),
        (f"{STREAM};q=0.2, */*;q=0.1", STREAM),
        (f"{JSON}; charset=utf-8", JSON),
        (f"{JSON};q=0, */*", STREAM),
        ("TEXT/Event-Stream", STREAM),
    ],
)
def test_the_offer_that_is_liked_best(header: str | None, chosen: str) -> None:
    assert choose(header, (JSON, STREAM)) == chosen


@pytest.mark.parametrize("header", ["image/png", f"{JSON};q=0", "*/*;q=0", f"{JSON};q=x", "text"])
def test_nothing_is_liked(header: str) -> None:
    with pytest.raises(Problem) as caught:
        choose(header, (JSON, STREAM))
    assert caught.value.status == 406


@pytest.mark.parametrize(
    ("header", "match"),
    [
        (None, False),
        ("*", True),
        ('"a"', True),
        ('W/"a"', True),
        ('"b", "a"', True),
        ('"ab"', False),
        ("a", False),
    ],
)
def test_if_none_match(header: str | None, match: bool) -> None:
    assert matches(header, '"a"') is match


@pytest.mark.parametrize(("header", "applies"), [(None, True), ('"a"', True), ('W/"a"', False), ("a", False)])
def test_if_range(header: str | None, applies: bool) -> None:
    assert range_applies(header, '"a"') is applies


@pytest.mark.parametrize(
    ("steps", "missing", "pointer"),
    [
        (["a", "b", 1], False, "/a/b/1"),
        (["a", "of the hub", "b"], False, "/a/b"),
        (["a", "c"], True, "/a/c"),
        (["a", "c"], False, "/a"),
        (["x/y~z"], False, "/x~1y~0z"),
        (["a", "b", 7], False, "/a/b"),
        ([], False, ""),
    ],
)
def test_pointers_follow_the_body(steps: list[Any], missing: bool, pointer: str) -> None:
    body = {"a": {"b": [1, 2]}, "x/y~z": 0}
    assert pointer_into(body, steps, missing=missing) == pointer
