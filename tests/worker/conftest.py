"""A workplace on SQLite for a worker's tests, and a supervisor that runs in the test's own process."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.workers import Workplace as Place
from worker.attempt import Stages, Workplace
from worker.supervisor import Supervisor

SLOW = Stages(prune="tests.support.slow_engine")


@pytest.fixture
def place(tmp_path: Path, sqlite_url: str) -> Iterator[Place]:
    """A workplace on SQLite."""
    place = Place(tmp_path, sqlite_url)
    yield place
    place.close()


@pytest.fixture
def make_supervisor(place: Place) -> Callable[..., Supervisor]:
    """Build a supervisor of `place` under a name; keywords change its settings."""

    def make(name: str = "worker-1", **settings: Any) -> Supervisor:
        changed = place.settings.model_copy(update=settings)
        return Supervisor(Workplace(place.database, place.store, changed, SLOW), worker_id=name)

    return make
