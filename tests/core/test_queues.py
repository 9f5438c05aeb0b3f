"""How API and workers reach the broker."""

from pathlib import Path

from core.queues import broker_options
from core.settings import Settings


def test_the_file_system_broker_lies_under_the_data_folder(tmp_path: Path) -> None:
    options = broker_options(Settings(data_dir=tmp_path))
    assert options["data_folder_in"] == options["data_folder_out"]
    for name in ("data_folder_in", "control_folder", "processed_folder"):
        folder = Path(options[name])
        assert folder.is_dir()
        assert folder.is_relative_to(tmp_path / "broker")


def test_redis_is_given_up_on_in_time(tmp_path: Path) -> None:
    options = broker_options(Settings(data_dir=tmp_path, broker_url="redis://redis:6379/0"))
    assert 0 < options["socket_connect_timeout"] <= options["socket_timeout"] <= 30
    assert not (tmp_path / "broker").exists()
