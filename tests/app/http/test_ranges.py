"""Byte ranges, for every header and size."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.http.ranges import ByteRange, Unsatisfiable, parse_range

SIZES = st.integers(0, 1000)


@given(st.integers(0, 1200), st.integers(0, 1200), SIZES)
def test_a_range_is_what_a_slice_would_be(first: int, last: int, size: int) -> None:
    content = bytes(range(256)) * 4
    content = content[:size]
    if last < first:
        assert parse_range(f"bytes={first}-{last}", size) is None
    elif first >= size:
        with pytest.raises(Unsatisfiable):
            parse_range(f"bytes={first}-{last}", size)
    else:
        found = parse_range(f"bytes={first}-{last}", size)
        assert found is not None
        assert content[found.start : found.end + 1] == content[first : last + 1]
        assert found.length == len(content[first : last + 1])


@given(st.integers(1, 1200), st.integers(1, 1000))
def test_a_suffix_is_the_end(count: int, size: int) -> None:
    assert parse_range(f"bytes=-{count}", size) == ByteRange(max(0, size - count), size - 1)


@given(st.text(max_size=40), SIZES)
def test_no_text_is_worse_than_ignored_or_unsatisfiable(header: str, size: int) -> None:
    try:
        found = parse_range(header, size)
    except Unsatisfiable:
        return
    assert found is None or 0 <= found.start <= found.end < size


def test_a_header_of_digits_costs_nothing() -> None:
    assert parse_range("bytes=" + "0-" * 100_000, 10) is None
    assert parse_range("bytes=" + "9" * 100_000 + "-", 10) is None
