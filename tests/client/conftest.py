"""A service without a worker: jobs wait until a test plays the worker."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from client import PruneryClient
from core.accounts.repository import create_key, create_owner
from core.db import Database, migrate
from core.settings import Settings
from tests.support.models import WORDS, save_tiny
from tests.support.server import running


@dataclass(frozen=True)
class Service:
    """Where a running service is, with the keys of two owners, and the database behind it."""

    url: str
    key: str
    other_key: str
    database: Database
    settings: Settings


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    from app.main import create_app

    settings = Settings(data_dir=tmp_path_factory.mktemp("data"))
    migrate(settings.database_url)
    database = Database(settings.database_url)
    with database.write() as session:
        keys = [create_key(session, create_owner(session, name).id, "test")[1] for name in ("ours", "theirs")]
    with running(create_app(settings)) as url:
        yield Service(url, *keys, database=database, settings=settings)
    database.dispose()


@pytest.fixture
def client(service: Service) -> Iterator[PruneryClient]:
    with PruneryClient(service.url, service.key) as client:
        yield client


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def dataset_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("datasets") / "reviews.jsonl"
    rows = [f'{{"text": "{WORDS[n % 20]} {WORDS[n % 7]}", "label": {n % 2}}}' for n in range(60)]
    path.write_text("\n".join(rows))
    return path
