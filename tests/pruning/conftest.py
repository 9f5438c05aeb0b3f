"""Whole jobs of the library, whose load checks a nursery starts."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from pruning.delivery import load_check
from tests.support.nursery import Forked, Nursery

_REAL = load_check._start


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """One for all tests of this process."""
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture(scope="session", autouse=True)
def _forked_load_checks(nursery: Nursery) -> Iterator[None]:
    """Let the nursery start load checks; a test of the check itself takes it back with `real_load_checks`."""

    def start(arguments: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> Forked:
        log.touch()
        return nursery.run(arguments, folder, log)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load_check, "_start", start)
        yield


@pytest.fixture
def real_load_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start load checks as jobs do."""
    monkeypatch.setattr(load_check, "_start", _REAL)
