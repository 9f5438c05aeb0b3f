"""The hub's client against a hub on loopback."""

import hashlib
import json
from pathlib import Path

import pytest

from core.artifacts.local import LocalStore
from core.assets import repository as assets
from core.assets.fetch import fetch, keep
from core.assets.files import HubReference
from core.assets.hub import HubClient
from core.assets.tables import AssetStatus, Model
from core.db import Database
from core.errors import HubUnavailable, InvalidRequest, NotFound, TooLarge
from core.settings import Settings
from pruning.errors import InvalidData, InvalidModel
from tests.support.hub_server import HubServer
from tests.support.ledger import make_owner
from tests.support.modelfiles import model_files

ROWS = b'{"text": "good", "label": 1}\n{"text": "bad", "label": 0}\n'


@pytest.fixture
def client(hub_server: HubServer) -> HubClient:
    return HubClient(hub_server.url)


def test_a_model_is_resolved_to_a_commit_and_the_files_a_job_needs(
    hub_server: HubServer, client: HubClient
) -> None:
    extra = {"pytorch_model.bin": b"x", "README.md": b"x", "onnx/model.onnx": b"x", "modeling.py": b"x"}
    repository = hub_server.add("model", "org/tiny", model_files() | extra)
    for revision in (None, "main", repository.commit):
        found = client.resolve_model("org/tiny", revision)
        assert (found.revision, found.model_type, found.config["hidden_size"]) == (
            repository.commit,
            "bert",
            8,
        )
        assert [file.name for file in found.files] == ["config.json", "model.safetensors", "vocab.txt"]
    weights = found.files[1]
    assert weights.bytes == len(repository.files["model.safetensors"])
    assert weights.sha256 == hashlib.sha256(repository.files["model.safetensors"]).hexdigest()
    assert found.files[2].sha256 is None


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"config.json": b"{}", "vocab.txt": b"a", "pytorch_model.bin": b"x"}, "safetensors"),
        (model_files(auto_map={"AutoModel": "m.M"}), "auto_map"),
        (model_files(model_type="llama"), "llama"),
        (model_files(architectures=["Evil"]), "Evil"),
        ({name: data for name, data in model_files().items() if name != "vocab.txt"}, "tokenizer"),
    ],
)
def test_models_that_cannot_be_pruned_are_refused(
    hub_server: HubServer, client: HubClient, files: dict[str, bytes], error: str
) -> None:
    hub_server.add("model", "org/bad", files)
    with pytest.raises(InvalidModel, match=error):
        client.resolve_model("org/bad")


def test_errors_of_the_hub_are_told_apart(hub_server: HubServer, client: HubClient) -> None:
    hub_server.add("model", "org/gated", model_files(), token="hf_right")
    hub_server.add("model", "org/tiny", model_files())
    with pytest.raises(NotFound, match="org/none"):
        client.resolve_model("org/none")
    with pytest.raises(NotFound, match="private or gated"):
        client.resolve_model("org/gated")
    assert HubClient(hub_server.url, "hf_right").resolve_model("org/gated").model_type == "bert"
    with pytest.raises(NotFound, match="revision"):
        client.resolve_model("org/tiny", "f" * 40)
    with pytest.raises(InvalidRequest):
        client.resolve_model("../../etc/passwd")
    with pytest.raises(TooLarge):
        HubClient(hub_server.url, max_model_bytes=10).resolve_model("org/tiny")
    hub_server.broken = True
    with pytest.raises(HubUnavailable):
        client.resolve_model("org/tiny")
    with pytest.raises(HubUnavailable):
        HubClient("http://127.0.0.1:9").resolve_model("org/tiny")


@pytest.mark.parametrize(
    ("config", "paths", "names"),
    [
        (
            "sst2",
            {
                "sst2/train-00000-of-00001.parquet": "train",
                "sst2/validation-00000-of-00001.parquet": "validation",
            },
            2,
        ),
        (None, {"data/train-00000-of-00001.parquet": "train"}, 1),
        (None, {"plain_text/train-00000-of-00001.parquet": "train"}, 1),
        (None, {"train.jsonl": "train", "dev.jsonl": "validation", "README.md": ""}, 2),
    ],
)
def test_the_splits_of_a_dataset_are_found(
    hub_server: HubServer, client: HubClient, config: str | None, paths: dict[str, str], names: int
) -> None:
    repository = hub_server.add("dataset", "org/data", dict.fromkeys(paths, ROWS))
    found = client.resolve_dataset("org/data", config)
    assert (found.revision, found.config, len(found.files)) == (repository.commit, config, names)
    for file in found.files:
        assert file.name.split(".")[0] == paths[str(file.hub_path)]
        assert file.name.split(".")[1] == str(file.hub_path).split(".")[1]


def test_datasets_that_are_not_one_file_per_split_are_refused(
    hub_server: HubServer, client: HubClient
) -> None:
    parts = {f"data/train-0000{part}-of-00002.parquet": ROWS for part in range(2)}
    hub_server.add("dataset", "org/parts", parts)
    with pytest.raises(InvalidData, match="more than one file"):
        client.resolve_dataset("org/parts")
    hub_server.add("dataset", "org/many", {"cola/train.csv": ROWS, "sst2/train.csv": ROWS})
    with pytest.raises(InvalidRequest, match="cola, sst2"):
        client.resolve_dataset("org/many")
    with pytest.raises(InvalidRequest, match="mnli"):
        client.resolve_dataset("org/many", "mnli")
    hub_server.add("dataset", "org/none", {"README.md": ROWS, "train.py": ROWS})
    with pytest.raises(InvalidData, match="no data files"):
        client.resolve_dataset("org/none")
    hub_server.add("dataset", "org/test", {"test.csv": ROWS})
    with pytest.raises(InvalidData, match="no train split"):
        client.resolve_dataset("org/test")


def test_a_pending_model_is_fetched_inspected_and_kept_once(
    hub_server: HubServer, client: HubClient, database: Database, tmp_path: Path
) -> None:
    hub_server.add("model", "org/tiny", model_files())
    found = client.resolve_model("org/tiny")
    with database.write() as session:
        owner = make_owner(session)
        model = assets.hub_model(session, owner, found)
        assert assets.hub_model(session, owner, found).id == model.id
    assert model.status == AssetStatus.PENDING
    folder, store = tmp_path / "fetched", LocalStore(tmp_path / "store")
    fetched = fetch(client, HubReference("model", "org/tiny", found.revision), found.files, folder)
    fetched = json.loads(json.dumps(fetched))
    for _ in range(2):
        keep(database, store, model.id, folder, fetched)
    with database.read() as session:
        ready = assets.get(session, Model, owner, model.id)
        files = assets.files_of(session, ready)
    assert (ready.status, ready.parameters) == (AssetStatus.READY, 10)
    stored = {file.name: store.path(str(file.sha256)) for file in files}
    assert {name: path.read_bytes() for name, path in stored.items() if path} == model_files()


def test_a_pending_dataset_is_fetched_with_its_summary(
    hub_server: HubServer, client: HubClient, sqlite_url: str, tmp_path: Path
) -> None:
    hub_server.add("dataset", "org/data", {"train.jsonl": ROWS})
    found = client.resolve_dataset("org/data")
    fetched = fetch(
        client, HubReference("dataset", "org/data", found.revision), found.files, tmp_path / "fetched"
    )
    assert fetched["summary"]["splits"] == {"train": 2}
    hub_server.add("dataset", "org/broken", {"train.jsonl": b"{"})
    found = client.resolve_dataset("org/broken")
    with pytest.raises(InvalidData, match="line 1"):
        fetch(client, HubReference("dataset", "org/broken", found.revision), found.files, tmp_path / "broken")


def test_a_file_that_is_not_what_the_hub_listed_is_not_kept(
    hub_server: HubServer, client: HubClient, tmp_path: Path
) -> None:
    repository = hub_server.add("dataset", "org/data", {"train.parquet": ROWS})
    found = client.resolve_dataset("org/data")
    commit = repository.commit
    repository.files["train.parquet"] = ROWS.replace(b"good", b"evil")
    reference = HubReference("dataset", "org/data", repository.commit)
    assert commit != repository.commit
    with pytest.raises(HubUnavailable, match="not what the hub listed"):
        client.fetch(reference, found.files, tmp_path / "fetched")
    assert not list((tmp_path / "fetched").iterdir())


def test_the_settings_switch_the_hub_off(tmp_path: Path) -> None:
    assert HubClient.from_settings(Settings(data_dir=tmp_path, hub_enabled=False)) is None
    assert HubClient.from_settings(Settings(data_dir=tmp_path)) is not None


def test_a_hub_that_names_no_commit_is_unavailable(
    hub_server: HubServer, client: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = hub_server.add("model", "org/tiny", model_files())
    told = repository.info()
    monkeypatch.setattr(repository, "info", lambda: told | {"sha": None})
    with pytest.raises(HubUnavailable, match="which commit of org/tiny"):
        client.resolve_model("org/tiny", None)


def test_a_file_of_unknown_size_is_not_there(
    hub_server: HubServer, client: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = hub_server.add("model", "org/tiny", model_files() | {"merges.txt": b"a b"})
    told = repository.info()
    for sibling in told["siblings"]:
        if sibling["rfilename"] == "merges.txt":
            del sibling["size"]
    monkeypatch.setattr(repository, "info", lambda: told)
    found = client.resolve_model("org/tiny", None)
    assert [file.name for file in found.files] == ["config.json", "model.safetensors", "vocab.txt"]


def test_a_file_that_is_gone_from_the_hub_is_said(
    hub_server: HubServer, client: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = hub_server.add("model", "org/tiny", model_files())
    told = repository.info()
    del repository.files["config.json"]
    monkeypatch.setattr(repository, "info", lambda: told)
    monkeypatch.setattr(type(repository), "commit", told["sha"])
    with pytest.raises(NotFound, match="A file of org/tiny is gone from the hub"):
        client.resolve_model("org/tiny", None)
