"""Lets coverage follow into processes that get few variables: it says in one what to measure."""

import os

import worker.environment

_COVERAGE = "COVERAGE_PROCESS_CONFIG"


def few_variables() -> dict[str, str]:
    """What a process of the tests gets from the environment of the tests."""
    return {name: os.environ[name] for name in ("PATH", "HOME", _COVERAGE) if name in os.environ}


def measure_children() -> None:
    """Let the children that a worker in this process starts be measured too, when it is."""
    worker.environment._INHERITED += (_COVERAGE,)
