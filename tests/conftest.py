"""Fixtures that every room may use, how hypothesis searches, and what the garbage collector leaves alone."""

import gc
import os

from hypothesis import settings

from tests.support.measured import measure_children

# On a loaded machine a slow example is no failure. The gate repeats itself; a person's runs look for new examples.
settings.register_profile("prunery", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("prunery")
measure_children()

pytest_plugins = [
    "tests.support.database",
    "tests.support.redis",
    "tests.support.hub_server",
    "tests.support.receiver",
    "tests.support.s3_server",
    "tests.support.disk",
]


def pytest_collection_finish() -> None:
    """Freeze what is loaded by now: stages of training collect garbage, and would look at all of it each time."""
    gc.collect()
    gc.freeze()
