"""Uploads and references of the hub in the database, on both databases."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from core.assets import repository
from core.assets.files import FileRecord, HubDatasetInfo, HubModelInfo, digest
from core.assets.tables import AssetStatus, Dataset, Model
from core.db import Database
from core.errors import Conflict, LedgerError, NotFound, TooLarge
from tests.support.ledger import CONFIG, make_dataset, make_model, make_owner

FIRST = FileRecord("config.json", 60, "1" * 64)
SECOND = FileRecord("model.safetensors", 50, "2" * 64)


@pytest.fixture
def owner(database: Database) -> str:
    with database.write() as session:
        return make_owner(session)


@pytest.fixture
def model_id(database: Database, owner: str) -> str:
    with database.write() as session:
        return repository.create_model(session, owner_id=owner, name="mine").id


def add(database: Database, owner: str, model_id: str, file: FileRecord, max_bytes: int = 1000) -> None:
    with database.write() as session:
        repository.add_file(session, Model, owner, model_id, file, max_bytes=max_bytes)


def complete(database: Database, owner: str, model_id: str, *files: FileRecord) -> Model:
    with database.write() as session:
        return repository.complete_model(
            session,
            owner,
            model_id,
            files=files,
            config=CONFIG,
            model_type="bert",
            parameters=7,
            digest="d" * 64,
        )


def test_a_file_sent_again_replaces_the_first(database: Database, owner: str, model_id: str) -> None:
    add(database, owner, model_id, FIRST)
    add(database, owner, model_id, SECOND)
    add(database, owner, model_id, FileRecord("config.json", 20, "3" * 64))
    with database.read() as session:
        model = repository.get(session, Model, owner, model_id)
        files = {file.name: (file.bytes, file.sha256) for file in repository.files_of(session, model)}
    assert files == {"config.json": (20, "3" * 64), "model.safetensors": (50, "2" * 64)}
    assert model.bytes == 70


def test_all_files_together_have_a_limit(database: Database, owner: str, model_id: str) -> None:
    add(database, owner, model_id, FIRST, max_bytes=100)
    with pytest.raises(TooLarge):
        add(database, owner, model_id, SECOND, max_bytes=100)
    with database.read() as session:
        assert repository.get(session, Model, owner, model_id).bytes == 60


def test_an_upload_is_completed_once(database: Database, owner: str, model_id: str) -> None:
    add(database, owner, model_id, FIRST)
    model = complete(database, owner, model_id, FIRST)
    assert (model.status, model.parameters, model.model_type) == (AssetStatus.READY, 7, "bert")
    for again in (
        lambda: complete(database, owner, model_id, FIRST),
        lambda: add(database, owner, model_id, SECOND),
    ):
        with pytest.raises(Conflict) as refused:
            again()
        assert refused.value.code == "already_complete"


def test_files_that_changed_during_the_inspection_are_noticed(
    database: Database, owner: str, model_id: str
) -> None:
    add(database, owner, model_id, FIRST)
    add(database, owner, model_id, SECOND)
    with pytest.raises(Conflict) as refused:
        complete(database, owner, model_id, FIRST)
    assert refused.value.code == "changed"


def test_of_many_completions_at_once_one_succeeds(database: Database, owner: str, model_id: str) -> None:
    def attempt(_: int) -> str:
        try:
            complete(database, owner, model_id)
        except LedgerError as error:
            return error.code
        return "done"

    with ThreadPoolExecutor(5) as pool:
        outcomes = sorted(pool.map(attempt, range(5)))
    assert outcomes == ["already_complete"] * 4 + ["done"]


def test_another_owners_assets_are_not_found(database: Database, owner: str, model_id: str) -> None:
    with database.write() as session:
        other = make_owner(session)
    for act in (
        lambda: add(database, other, model_id, FIRST),
        lambda: complete(database, other, model_id),
    ):
        with pytest.raises(NotFound):
            act()
    with database.read() as session:
        assert repository.list_assets(session, Model, other).data == []
        with pytest.raises(NotFound):
            repository.get(session, Dataset, owner, model_id)


def test_assets_are_listed_newest_first(database: Database, owner: str) -> None:
    with database.write() as session:
        ids = [make_dataset(session, owner) for _ in range(3)]
    with database.read() as session:
        first = repository.list_assets(session, Dataset, owner, limit=2)
        second = repository.list_assets(session, Dataset, owner, limit=2, cursor=first.next_cursor)
    assert [dataset.id for dataset in first.data + second.data] == sorted(ids, reverse=True)
    assert (first.has_more, second.has_more) == (True, False)


def test_a_commit_of_the_hub_is_one_asset_per_owner(database: Database, owner: str) -> None:
    model = HubModelInfo(
        "org/m", "c" * 40, CONFIG, "bert", (FileRecord("config.json", 5, None, "config.json"),)
    )
    plain = HubDatasetInfo("org/d", None, "c" * 40, (FileRecord("train.csv", 5, None, "data/train.csv"),))
    named = HubDatasetInfo("org/d", "sst2", "c" * 40, plain.files)
    with database.write() as session:
        other = make_owner(session)
        first = repository.hub_model(session, owner, model)
        assert repository.hub_model(session, owner, model).id == first.id
        assert repository.hub_model(session, other, model).id != first.id
        datasets = [repository.hub_dataset(session, owner, found).id for found in (plain, named, plain)]
        assert datasets[0] == datasets[2] != datasets[1]
        assert (
            repository.require_usable(session, Model, owner, first.id, "/model").status == AssetStatus.PENDING
        )
        assert [file.hub_path for file in repository.files_of(session, first)] == ["config.json"]


def test_an_unused_asset_is_deleted_with_its_files(database: Database, owner: str) -> None:
    with database.write() as session:
        model_id = make_model(session, owner)
        model = repository.get(session, Model, owner, model_id)
        repository.delete(session, Model, owner, model_id)
        assert repository.files_of(session, model) == []


def test_the_digest_does_not_depend_on_the_order() -> None:
    assert digest([FIRST, SECOND]) == digest([SECOND, FIRST]) != digest([FIRST])
