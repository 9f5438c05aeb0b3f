"""Rings by files: what a killed writer leaves does not stop a worker."""

from pathlib import Path

from kombu import Exchange, Queue

from core.queues import broker_options
from core.settings import Settings
from worker.celery_app import make_celery


def test_half_a_message_is_passed_over(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    messages = Path(broker_options(settings)["data_folder_in"])
    (messages / "0_first.cpu.msg").write_bytes(b"")
    (messages / "0_second.cpu.msg").write_bytes(b'{"body": "e3')
    with make_celery(settings, ["cpu"]).connection_for_read() as connection:
        queue = Queue("cpu", Exchange("cpu"), routing_key="cpu")(connection.channel())
        queue.declare()
        connection.Producer().publish({"look": 1}, exchange="cpu", routing_key="cpu")
        found = [queue.get(no_ack=True) for _ in range(3)]
    assert found[:2] == [None, None]
    assert found[2].payload == {"look": 1}
    assert not list(messages.iterdir())
