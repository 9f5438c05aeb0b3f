from collections.abc import Iterator
from pathlib import Path

import pytest

from client import PruneryClient
from tests.support.api import Api, running_api
from tests.support.models import save_tiny
from tests.support.reviews import write_reviews


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    with running_api(tmp_path_factory.mktemp("data")) as api:
        yield api


@pytest.fixture
def client(api: Api) -> Iterator[PruneryClient]:
    with PruneryClient(api.url, api.key) as client:
        yield client


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def dataset_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("datasets") / "reviews.jsonl")
