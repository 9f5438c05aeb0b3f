"""How API and workers reach the broker."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu import Connection, Exchange, Queue

from core.queues import QUEUES, broker_options, queue_for, taken_by
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


@pytest.mark.parametrize("torn", [None, "", '[["cpu", '])
def test_a_torn_binding_is_written_anew_and_read_by_kombu(tmp_path: Path, torn: str | None) -> None:
    """As a process leaves it that is killed while it declares a queue."""
    settings = Settings(data_dir=tmp_path)
    control = Path(broker_options(settings)["control_folder"])
    path = control / "cpu.exchange"
    path.unlink()
    if torn is not None:
        path.write_text(torn)
    options = broker_options(settings)
    written = path.stat()
    with Connection("filesystem://", transport_options=options) as connection:
        bound = Queue("cpu", Exchange("cpu"), routing_key="cpu")(connection.channel())
        bound.declare()
        connection.Producer().publish({"look": 1}, exchange="cpu", routing_key="cpu")
        assert bound.get(no_ack=True).payload == {"look": 1}
    assert json.loads(path.read_text()) == [["cpu", "", "cpu"]]
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert sorted(file.name for file in control.iterdir()) == sorted(f"{name}.exchange" for name in QUEUES)


@given(wanted=st.integers(0, 1024), offered=st.floats(0, 1024))
def test_whoever_can_run_a_job_takes_from_its_queue(wanted: int, offered: float) -> None:
    queue = queue_for(needs_gpu=True, gpu_memory_gib=wanted)
    assert queue in QUEUES
    assert set(taken_by("gpu", offered)) <= set(QUEUES)
    if wanted <= offered:
        assert queue in taken_by("gpu", offered)
    assert queue not in taken_by("cpu")


def test_what_needs_no_gpu_is_taken_by_every_worker() -> None:
    assert queue_for(needs_gpu=False) in taken_by("cpu")
    assert queue_for(needs_gpu=False) in taken_by("gpu")
    assert queue_for(needs_gpu=True, gpu_memory_gib=40) == "gpu-32g"
    assert taken_by("gpu", 39.6) == ("gpu", "gpu-16g", "gpu-32g", "cpu")
