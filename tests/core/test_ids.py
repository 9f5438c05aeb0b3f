"""Identifiers sort by the time they were made."""

import re
import time

from core.ids import new_id


def test_identifiers_have_a_prefix_and_26_characters() -> None:
    assert re.fullmatch(r"job_[0-9a-hjkmnp-tv-z]{26}", new_id("job"))


def test_identifiers_are_unique_and_sort_by_time() -> None:
    made = []
    for _ in range(5):
        made.append(new_id("art"))
        time.sleep(0.002)
    assert made == sorted(made)
    assert len({new_id("art") for _ in range(1000)}) == 1000
