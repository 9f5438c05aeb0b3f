import pytest

from pruning.errors import Canceled
from pruning.steps.progress import Progress


def fractions(events):
    return [event.data["fraction"] for event in events if event.type == "progress"]


def test_steps_share_the_whole_in_order():
    events = []
    progress = Progress(events.append, lambda: None)
    with progress.step("load", "loading"):
        progress.lay_out({"prune": 3, "export": 1})
    with progress.step("prune", "pruning"):
        progress.tell(0.5)
    with progress.step("export", "exporting"):
        progress.tell(1.0)
    assert [event.data["phase"] for event in events if event.type == "phase"] == [
        "loading",
        "pruning",
        "exporting",
    ]
    assert fractions(events) == pytest.approx([0.0, 0.02, 0.02 + 0.98 * 3 / 8, 0.755, 1.0])
    assert set(progress.seconds) == {"loading", "pruning", "exporting"}


def test_a_beat_tells_at_most_once_a_second(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("pruning.steps.progress.time.monotonic", lambda: now[0])
    events = []
    progress = Progress(events.append, lambda: None)
    with progress.step("load", "loading"):
        for tenth in range(35):
            now[0] = 100 + tenth / 10
            progress.at(tenth / 100)
    assert len(fractions(events)) == 4


def test_a_stop_is_heard():
    progress = Progress(lambda event: None, lambda: "preempt")
    assert progress.beat() == "preempt"
    with pytest.raises(Canceled):
        progress.check()
