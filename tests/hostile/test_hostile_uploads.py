"""Hostile files are refused with a place and a remedy, leave nothing that a job could use, and cost little memory."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import psutil
import pytest
from fastapi.testclient import TestClient

from app.main import create_app
from core.accounts.repository import create_key, create_owner
from core.assets.names import check_dataset_name, check_model_name
from core.errors import InvalidRequest
from core.settings import Settings
from pruning.errors import InvalidData, InvalidModel
from tests.app.conftest import Service, problem
from tests.hostile import rows, texts, weights
from tests.hostile.case import Case
from tests.hostile.growth import check
from tests.hostile.names import DATASET_NAMES, MODEL_NAMES
from tests.support.uploads import dataset_files, model_files

CASES = [*weights.cases(), *texts.cases(), *rows.cases()]
GROWTH_BYTES = 32 * 2**20
REPLY_BYTES = 16_384
"""No refusal repeats what it was sent at length."""


@contextmanager
def little_memory() -> Iterator[None]:
    """Fail when the process grows by more than `GROWTH_BYTES` inside, also for a moment where the system can tell."""
    process = psutil.Process()
    before = process.memory_info().rss
    peak_is_known = _forget_peak()
    yield
    after = _peak() if peak_is_known else process.memory_info().rss
    assert after - before <= GROWTH_BYTES, f"{(after - before) >> 20} MiB more"


def _forget_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def warm_up(service: Service) -> None:
    """Load what the first good upload loads."""
    service.complete("models", model_files())
    service.complete("datasets", dataset_files())
    service.complete("datasets", {"train.csv": b"text,label\na,0\nb,1\n"})
    service.complete("datasets", {"train.parquet": rows.plain()})


def refuse(service: Service, case: Case, files: dict[str, bytes]) -> None:
    """Upload a case, and check that completing it is refused as it should be."""
    asset_id = service.upload(case.collection, files)
    reply = service.client.post(f"/v1/{case.collection}/{asset_id}/complete")
    code = "invalid_model" if case.collection == "models" else "invalid_data"
    document = problem(reply, 422, code)
    assert len(reply.content) <= REPLY_BYTES
    assert case.says in document["detail"]
    assert document["detail"].endswith(".")
    asset = service.client.get(f"/v1/{case.collection}/{asset_id}").json()
    assert (asset["status"], asset["digest"]) == ("uploading", None)
    assert list(service.services.settings.work_dir.iterdir()) == []
    assert service.client.delete(f"/v1/{case.collection}/{asset_id}").status_code == 204


def refuse_name(service: Service, collection: str, name: str) -> None:
    """Put a file of this name, and check that it is refused, and that there is no file afterwards."""
    asset_id = service.upload(collection, {})
    stored = list(service.store.objects())
    with little_memory():
        reply = service.client.put(f"/v1/{collection}/{asset_id}/files/{name}", content=b"evil")
    assert reply.status_code in (404, 405, 422), reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert len(reply.content) <= REPLY_BYTES
    assert list(service.store.objects()) == stored
    assert service.client.get(f"/v1/{collection}/{asset_id}").json()["files"] == []
    assert service.client.delete(f"/v1/{collection}/{asset_id}").status_code == 204


@pytest.fixture(scope="module")
def door(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The application, warm."""
    folder = tmp_path_factory.mktemp("hostile")
    shutil.copyfile(sqlite_template, folder / "prunery.db")
    app = create_app(Settings(data_dir=folder, poll_seconds=60.0))
    with app.state.services.database.write() as session:
        owner = create_owner(session, "first")
        _, key = create_key(session, owner.id, "key")
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        service = Service(app, client, owner.id, key)
        warm_up(service)
        yield service


@pytest.fixture(scope="module")
def _loaded() -> None:
    import pyarrow.parquet  # noqa: F401 - the first Parquet file loads it, which is no growth by a file


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.usefixtures("_loaded")
def test_a_hostile_file_is_refused(tmp_path: Path, case: Case) -> None:
    for name, content in case.make().items():
        (tmp_path / name).write_bytes(content)
    with little_memory(), pytest.raises((InvalidModel, InvalidData)) as refused:
        check(case.collection, tmp_path)
    assert case.says in str(refused.value)
    assert refused.value.remedy
    assert len(str(refused.value)) <= REPLY_BYTES


@pytest.mark.parametrize("case", CASES[::12], ids=str)
def test_a_hostile_upload_is_refused_over_http(door: Service, case: Case) -> None:
    refuse(door, case, case.make())


def test_the_whole_corpus_leaves_a_process_as_large_as_it_was(tmp_path: Path) -> None:
    for number, case in enumerate(CASES):
        folder = tmp_path / f"{number:03}-{case.collection}"
        folder.mkdir()
        for name, content in case.make().items():
            (folder / name).write_bytes(content)
    command = [sys.executable, "-m", "tests.hostile.growth", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= GROWTH_BYTES


@pytest.mark.parametrize("name", MODEL_NAMES[::4], ids=lambda name: name[-60:])
def test_a_hostile_name_of_a_model_file_is_refused(door: Service, name: str) -> None:
    refuse_name(door, "models", name)


@pytest.mark.parametrize("name", DATASET_NAMES[::4], ids=lambda name: name[-60:])
def test_a_hostile_name_of_a_data_file_is_refused(door: Service, name: str) -> None:
    refuse_name(door, "datasets", name)


def test_no_hostile_name_is_taken() -> None:
    for names, check_name in ((MODEL_NAMES, check_model_name), (DATASET_NAMES, check_dataset_name)):
        for name in names:
            with pytest.raises(InvalidRequest) as refused:
                check_name(unquote(name))
            assert len(refused.value.message) < 1000


def test_the_corpus_is_large_and_no_case_is_there_twice() -> None:
    assert len({case.id for case in CASES}) == len(CASES) >= 200
