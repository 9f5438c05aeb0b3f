from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.main import run
from tests.support.api import Api, running_api
from tests.support.models import save_tiny
from tests.support.reviews import write_reviews

Prunery = Callable[..., tuple[int, str, str]]
"""Runs one command line and returns its status, standard output and standard error."""


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("data")) as api:
        yield api


@pytest.fixture
def prunery(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Prunery:
    monkeypatch.chdir(tmp_path)
    for name in ("PRUNERY_URL", "PRUNERY_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def command(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run(words)
        said = capsys.readouterr()
        return status, said.out, said.err

    return command


@pytest.fixture
def online(prunery: Prunery, api: Api, monkeypatch: pytest.MonkeyPatch) -> Prunery:
    monkeypatch.setenv("PRUNERY_URL", api.url)
    monkeypatch.setenv("PRUNERY_API_KEY", api.key)
    return prunery


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_tiny(tmp_path_factory.mktemp("models") / "tiny")
    (folder / "README.md").write_text("# not part of the model")
    return folder


@pytest.fixture(scope="session")
def dataset_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("datasets") / "reviews.jsonl")
