"""What Celery is told, and that rings and slots behave."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from celery.worker import state

from core.queues import DOORBELL, taken_by
from core.settings import Settings
from worker.celery_app import make_celery
from worker.slots import Slots
from worker.tasks import add_doorbell, hand_back_on_leaving, hand_back_on_signal


def settings(folder: Path, **values: str) -> Settings:
    return Settings(data_dir=folder, **values)


def test_a_gpu_worker_takes_what_needs_no_gpu_too(tmp_path: Path) -> None:
    conf = make_celery(settings(tmp_path, worker_queue="gpu"), taken_by("gpu", 24.0)).conf
    assert [queue.name for queue in conf.task_queues] == ["gpu", "gpu-16g", "cpu"]


@pytest.mark.parametrize("broker", ["filesystem://", "redis://127.0.0.1:6379/0"])
def test_nothing_is_redelivered_executed_or_guessed(tmp_path: Path, broker: str) -> None:
    conf = make_celery(settings(tmp_path, broker_url=broker), ["cpu"]).conf
    assert [queue.name for queue in conf.task_queues] == ["cpu"]
    assert conf.accept_content == ["json"]
    assert conf.task_acks_late is False
    assert conf.task_create_missing_queues is False
    assert conf.result_backend is None
    assert conf.worker_pool == "threads"
    assert conf.worker_disable_prefetch is broker.startswith("redis")
    assert conf.broker_connection_max_retries is None


def test_the_folders_of_the_file_system_broker_are_made(tmp_path: Path) -> None:
    make_celery(settings(tmp_path), ["cpu"])
    assert {path.name for path in (tmp_path / "broker").iterdir()} == {"messages", "control", "processed"}


def test_the_only_task_is_the_doorbell(tmp_path: Path) -> None:
    celery = make_celery(settings(tmp_path), ["cpu"])
    rung = []
    add_doorbell(celery, Slots(1, lambda preempted: bool(rung.append(preempted))))
    own = [name for name in celery.tasks if not name.startswith("celery.")]
    assert own == [DOORBELL]
    celery.tasks[DOORBELL]()
    assert len(rung) == 1


def test_a_signal_before_celery_listens_hands_back() -> None:
    slots = Slots(1, lambda preempted: False)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        hand_back_on_signal(slots)
        assert not slots.stopping()
        os.kill(os.getpid(), signal.SIGTERM)
        assert slots.stopping()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize(("stopped", "asked"), [(True, os.EX_OK), (False, None)])
def test_a_worker_that_was_asked_to_end_before_it_began_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool, asked: int | None
) -> None:
    monkeypatch.setattr(state, "should_stop", None)
    celery = make_celery(settings(tmp_path), ["cpu"])
    slots = Slots(1, lambda preempted: False)
    hand_back_on_leaving(celery, slots)
    (step,) = (step for step in celery.steps["worker"] if step.__name__ == "HandBack")
    if stopped:
        slots.stop()
    step(None).start(None)
    assert state.should_stop == asked


def test_a_slot_works_until_nothing_is_left() -> None:
    left = [3]

    def work(preempted: object) -> bool:
        left[0] -= 1
        return left[0] > 0

    Slots(1, work).run()
    assert left == [0]


def test_no_more_jobs_than_slots_and_none_after_stop() -> None:
    running, most, release = [0], [0], threading.Event()
    lock = threading.Lock()

    def work(preempted: object) -> bool:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        release.wait(5)
        with lock:
            running[0] -= 1
        return False

    slots = Slots(2, work)
    slots.wake()
    slots.run()  # every slot is taken: returns at once
    time.sleep(0.05)
    assert (running[0], most[0]) == (2, 2)
    slots.stop()
    release.set()
    slots.join()
    slots.wake()
    slots.run()
    assert (running[0], most[0]) == (0, 2)


def test_a_slot_survives_what_its_work_raises(caplog: pytest.LogCaptureFixture) -> None:
    def work(preempted: object) -> bool:
        raise RuntimeError("broken")

    slots = Slots(1, work)
    slots.run()
    slots.run()
    assert caplog.text.count("RuntimeError: broken") == 2
