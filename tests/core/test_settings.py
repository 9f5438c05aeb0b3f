"""Settings come from the environment, fit together, and are documented."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from core.settings import Settings, settings_from_env
from core.settings import table as module
from core.settings.table import main, table


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("PRUNERY_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_everything_lies_under_the_data_folder_by_default(tmp_path: Path) -> None:
    settings = settings_from_env()
    root = tmp_path / "prunery-data"
    assert settings.database_url == f"sqlite:///{root}/prunery.db"
    assert (settings.store_dir, settings.work_dir) == (root / "store", root / "work")
    assert settings.broker_url == "filesystem://"
    assert settings.host == "127.0.0.1"


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNERY_DATABASE_URL", "postgresql://u:p@db/prunery")
    monkeypatch.setenv("PRUNERY_WORKER_SLOTS", "2")
    monkeypatch.setenv("PRUNERY_DATA_DIR", "/data")
    settings = settings_from_env()
    assert settings.database_url == "postgresql+psycopg://u:p@db/prunery"
    assert (settings.worker_slots, settings.store_dir) == (2, Path("/data/store"))
    assert settings.threads_per_slot >= 1
    assert Settings(worker_threads=3).threads_per_slot == 3


def test_secrets_may_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_secret\n")
    monkeypatch.setenv("PRUNERY_HUB_TOKEN_FILE", str(tmp_path / "token"))
    settings = settings_from_env()
    assert settings.hub_token is not None
    assert settings.hub_token.get_secret_value() == "hf_secret"
    assert "hf_secret" not in repr(settings)


@pytest.mark.parametrize(
    "bad",
    [
        {"heartbeat_seconds": 20.0},
        {"worker_slots": 0},
        {"port": 70_000},
        {"log_format": "xml"},
        {"idempotency_hours": 1.0},
        {"worker_queue": "tpu"},
        {"no_such_setting": 1},
        {"store_url": "/srv/store"},
        {"store_url": "s3://Bucket"},
        {"store_url": "s3://bucket/../other"},
        {"store_url": "s3://key:secret@bucket"},
        {"s3_endpoint_url": "http://key:secret@s3:9000"},
        {"s3_endpoint_url": "s3:9000"},
        {"s3_secret_access_key": "alone"},
    ],
)
def test_settings_that_do_not_fit_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings(**bad)  # type: ignore[arg-type]


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1  # type: ignore[misc]


def test_the_table_in_the_documentation_is_this_one() -> None:
    assert main([]) == 0


def test_a_stale_table_is_named_and_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "core" / "settings" / "table.py"))
    page = tmp_path / "docs" / "settings.md"
    page.parent.mkdir()
    assert main([]) == 1
    page.write_text("old")
    assert main([]) == 1
    assert capsys.readouterr().err.count("run python -m core.settings --write") == 2
    assert main(["--write"]) == 0
    assert page.read_text("utf-8") == table()
    assert main([]) == 0


def test_the_command_checks_the_table() -> None:
    assert subprocess.run([sys.executable, "-m", "core.settings"], check=False).returncode == 0


def test_every_setting_is_described() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    assert all(f"`PRUNERY_{name.upper()}`" in table() for name in Settings.model_fields)
