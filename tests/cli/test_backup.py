"""A service that is asked over HTTP, saved while it runs, lost, and asked again from its backup."""

from pathlib import Path
from typing import Any

import pytest

from app.main import create_app
from cli.main import WRONG_USE
from client import PruneryClient
from core.settings import Settings
from tests.cli.conftest import Prunery
from tests.support.api import RESULT, running_api
from tests.support.s3_server import S3Server
from tests.support.server import running


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_a_service_goes_on_from_its_backup(
    prunery: Prunery,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    model_folder: Path,
    dataset_file: Path,
    kind: str,
) -> None:
    lost: dict[str, Any] = {}
    new: dict[str, Any] = {}
    if kind == "s3":
        server: S3Server = request.getfixturevalue("s3_server")
        lost, new = (server.settings(server.make_bucket().name) for _ in range(2))
    with running_api(tmp_path / "lost", **lost) as api, PruneryClient(api.url, api.key) as client:
        model, dataset = client.upload_model(model_folder), client.upload_dataset(dataset_file)
        done, under_way = (client.submit(model.id, dataset.id, 0.5) for _ in range(2))
        api.succeed(api.take(done.id))
        api.take(under_way.id)
        key = api.key
        set_variables(monkeypatch, lost | {"data_dir": tmp_path / "lost"})
        status, said, _ = prunery("backup", "saved")
        assert status == 0
        assert said.startswith("saved ")

    set_variables(monkeypatch, new | {"data_dir": tmp_path / "new"})
    status, said, _ = prunery("restore", "saved")
    assert (status, "1 jobs that were running were taken from their workers" in said) == (0, True)
    with (
        running(create_app(Settings(data_dir=tmp_path / "new", **new))) as url,
        PruneryClient(url, key) as client,
    ):
        assert client.job(done.id).status == "succeeded"
        assert client.job(under_way.id).status == "queued"
        client.download(done.id, tmp_path / "downloaded")  # which checks every hash
    for name, content in RESULT.items():
        assert (tmp_path / "downloaded" / name).read_bytes() == content


def set_variables(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> None:
    """Configure the commands as the service is."""
    for name, value in settings.items():
        monkeypatch.setenv(f"PRUNERY_{name.upper()}", str(value))


def test_what_is_no_backup_is_said_in_one_line(prunery: Prunery, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    status, _, said = prunery("restore", "empty")
    assert status == 1
    assert said.startswith("error: empty holds no prunery.db")
    assert len(said.splitlines()) == 1
    (tmp_path / "file").write_text("")
    assert prunery("backup", "file")[0] == WRONG_USE
