"""From claim to settlement, with the slow engine in real child processes and a real database."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from sqlalchemy import update

from core.artifacts.repository import list_artifacts
from core.artifacts.store import Stored
from core.errors import Conflict, StorageFull
from core.jobs import repository
from core.jobs.states import Status
from core.jobs.tables import Job
from tests.support.workers import FlickeringDatabase, Workplace, figure, until
from worker import heartbeat, watch
from worker.attempt import Stages
from worker.attempt import Workplace as AtWork
from worker.channel import BrokenChannel
from worker.supervisor import Supervisor

MakeSupervisor = Callable[..., Supervisor]
SLOW = Stages(prune="tests.support.slow_engine")


def never() -> bool:
    return False


@contextmanager
def working(supervisor: Supervisor, preempted: Callable[[], bool] = never):
    """Let the supervisor work on one job in a thread; waits for its end."""
    thread = threading.Thread(target=supervisor.work, args=(preempted,))
    thread.start()
    try:
        yield thread
    finally:
        thread.join(30)
        assert not thread.is_alive()


def alive(pids: set[int]) -> set[int]:
    return {
        pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    }


def test_nothing_to_claim(make_supervisor: MakeSupervisor) -> None:
    assert make_supervisor().work(never) is False


def test_nothing_is_claimed_while_the_database_is_away(
    place: Workplace, make_supervisor: MakeSupervisor, caplog: pytest.LogCaptureFixture
) -> None:
    job_id = place.submit()
    database = FlickeringDatabase(place.settings.database_url)
    database.away = True
    at_work = AtWork(database, place.store, place.settings, SLOW)
    assert Supervisor(at_work, worker_id="w").work(never) is False
    assert "The database does not answer. Nothing is claimed." in caplog.text
    assert place.job(job_id).status == Status.QUEUED
    database.dispose()


def test_a_child_that_somebody_else_asked_to_end_is_tried_again(
    place: Workplace, make_supervisor: MakeSupervisor
) -> None:
    job_id = place.submit("one", steps=1000)
    with working(make_supervisor()):
        place.wait_for_step("one")
        (pid,) = place.child_pids("one")
        os.kill(pid, signal.SIGTERM)
    job = place.job(job_id)
    assert (job.status, job.failures) == (Status.QUEUED, 1)
    assert [lost["code"] for lost in place.events(job_id, "attempt_lost")] == ["interrupted"]


@pytest.mark.parametrize("event", ["metric", {"type": "gossip", "data": {}}, {"type": "metric", "data": 1}])
def test_an_event_that_is_none_is_nonsense(event: object) -> None:
    with pytest.raises(BrokenChannel, match="expected an event"):
        watch._read_event({"event": event})


def test_a_job_succeeds_with_its_events_and_artifacts(
    place: Workplace, make_supervisor: MakeSupervisor
) -> None:
    job_id = place.submit("one", steps=3)
    assert make_supervisor().work(never) is True
    job = place.job(job_id)
    assert (job.status, job.phase, job.progress, job.attempt) == (Status.SUCCEEDED, "pruning", 1.0, 1)
    assert job.report is not None
    assert job.report["kind"] == "shrunk"
    assert job.metrics == {"loss": pytest.approx(1 / 3)}
    assert place.statuses(job_id) == ["queued", "running", "succeeded"]
    assert [data["step"] for data in place.events(job_id, "metric")] == [0, 1, 2]
    with place.database.read() as session:
        artifacts = list_artifacts(session, job)
    assert [artifact.name for artifact in artifacts] == [
        "model/config.json",
        "model/weights.bin",
        "report.json",
    ]
    assert [artifact.media_type for artifact in artifacts][:2] == [
        "application/json",
        "application/octet-stream",
    ]
    with place.store.open(artifacts[1].sha256) as file:
        assert file.read() == place.weights("one", 3)
    assert not (place.settings.work_dir / "jobs" / job_id).exists()


def test_the_child_gets_its_inputs(place: Workplace, make_supervisor: MakeSupervisor) -> None:
    job_id = place.submit("one", steps=1000)
    with working(make_supervisor()):
        place.wait_for_step("one")
        inputs = place.settings.work_dir / "jobs" / job_id / "attempts/1/inputs"
        assert (inputs / "model/config.json").read_text() == "{}"
        assert (inputs / "dataset/train.jsonl").read_text() == "{}\n"
        cancel(place, job_id)


@pytest.mark.parametrize("role", ["model", "teacher"])
def test_the_result_of_a_job_is_the_model_or_the_teacher_of_the_next(
    place: Workplace, make_supervisor: MakeSupervisor, role: str
) -> None:
    first = place.submit("one", steps=1)
    assert make_supervisor().work(never)
    inputs = {"model_id": None, "model_job_id": first} if role == "model" else {"teacher_job_id": first}
    second = place.submit("two", steps=1000, job=inputs)
    with working(make_supervisor()):
        place.wait_for_step("two")
        model = place.settings.work_dir / "jobs" / second / "attempts/1/inputs" / role
        assert [path.name for path in model.iterdir()] == ["config.json"]
        assert json.loads((model / "config.json").read_text()) == {"made_by": "one"}
        cancel(place, second)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (
            "user_error",
            {
                "code": "invalid_data",
                "class": "user",
                "message": "no label column Add one.",
                "param": "/dataset",
            },
        ),
        (
            "bug",
            {
                "code": "internal_error",
                "class": "bug",
                "message": "Unexpected RuntimeError: something nobody thought of",
                "param": "",
            },
        ),
        (
            "exit",
            {
                "code": "crashed",
                "class": "bug",
                "message": "The job's process ended unexpectedly by exit code 7.",
                "param": "",
            },
        ),
        (
            "crash",
            {
                "code": "crashed",
                "class": "bug",
                "message": "The job's process ended unexpectedly by signal SIGSEGV.",
                "param": "",
            },
        ),
    ],
)
def test_what_no_retry_can_help_fails_at_once(
    place: Workplace, make_supervisor: MakeSupervisor, mode: str, expected: dict[str, str]
) -> None:
    job_id = place.submit(mode=mode)
    assert make_supervisor().work(never)
    job = place.job(job_id)
    assert (job.status, job.error, job.attempt) == (Status.FAILED, expected, 1)
    assert not (place.settings.work_dir / "jobs" / job_id).exists()


def test_garbage_on_the_pipe_is_a_bug(place: Workplace, make_supervisor: MakeSupervisor) -> None:
    job_id = place.submit(mode="garbage")
    assert make_supervisor().work(never)
    error = place.job(job_id).error
    assert error is not None
    assert (error["code"], error["class"]) == ("internal_error", "bug")


@pytest.mark.parametrize("mode", ["out_of_memory", "killed"])
def test_too_little_memory_is_tried_once_more(
    place: Workplace, make_supervisor: MakeSupervisor, mode: str
) -> None:
    job_id = place.submit(mode=mode)
    supervisor = make_supervisor()
    assert supervisor.work(never)
    assert place.job(job_id).status == Status.QUEUED
    assert supervisor.work(never)
    job = place.job(job_id)
    assert job.error is not None
    assert (job.status, job.attempt, job.error["code"]) == (Status.FAILED, 2, "out_of_memory")


def test_canceling_a_polite_child_takes_seconds_at_most(
    place: Workplace, make_supervisor: MakeSupervisor
) -> None:
    job_id = place.submit("one", steps=1000)
    with working(make_supervisor()):
        place.wait_for_step("one")
        asked = time.monotonic()
        cancel(place, job_id)
        place.wait(job_id, Status.CANCELED)
        waited = time.monotonic() - asked
    assert waited < 5
    figure(f"cancel of a polite child: {waited:.1f} s")
    assert place.statuses(job_id) == ["queued", "running", "canceling", "canceled"]
    assert not alive(place.child_pids("one"))
    assert not (place.settings.work_dir / "jobs" / job_id).exists()


def test_a_stubborn_child_is_killed_after_the_grace(
    place: Workplace, make_supervisor: MakeSupervisor
) -> None:
    job_id = place.submit("one", steps=1000, mode="deaf")
    with working(make_supervisor()):
        place.wait_for_step("one")
        asked = time.monotonic()
        cancel(place, job_id)
        place.wait(job_id, Status.CANCELED)
        waited = time.monotonic() - asked
    figure(f"cancel of a stubborn child with a grace of 1 s: {waited:.1f} s")
    assert place.settings.cancel_grace_seconds <= waited < place.settings.cancel_grace_seconds + 4
    assert not alive(place.child_pids("one"))


def test_a_silent_child_is_canceled_too(place: Workplace, make_supervisor: MakeSupervisor) -> None:
    """No news, so no write is due before the heartbeat; the look in between sees the cancel."""
    job_id = place.submit(mode="hang")
    with working(make_supervisor(lease_seconds=300.0, heartbeat_seconds=60.0)):
        place.wait(job_id, Status.RUNNING)
        asked = time.monotonic()
        cancel(place, job_id)
        place.wait(job_id, Status.CANCELED)
        assert time.monotonic() - asked < 7


def test_the_run_timeout_ends_the_job(place: Workplace, make_supervisor: MakeSupervisor) -> None:
    job_id = place.submit("one", steps=1000, job={"run_timeout_seconds": 1.0})
    assert make_supervisor().work(never)
    job = place.job(job_id)
    assert job.error is not None
    assert (job.status, job.error["code"], job.error["param"]) == (Status.FAILED, "run_timeout", "/timeout_s")
    assert not alive(place.child_pids("one"))


def test_a_stalled_child_is_tried_again_until_the_failures_are_used_up(
    place: Workplace, make_supervisor: MakeSupervisor
) -> None:
    job_id = place.submit(mode="hang")
    supervisor = make_supervisor(stall_timeout_seconds=0.5, max_failures=2, retry_backoff_seconds=0.0)
    assert supervisor.work(never)
    assert place.job(job_id).status == Status.QUEUED
    assert supervisor.work(never)
    job = place.job(job_id)
    assert job.error is not None
    assert (job.status, job.error["code"], job.failures) == (Status.FAILED, "stalled", 2)
    assert [data["code"] for data in place.events(job_id, "attempt_lost")] == ["stalled", "stalled"]


def test_preemption_keeps_every_step(place: Workplace, make_supervisor: MakeSupervisor) -> None:
    job_id = place.submit("one", steps=30)
    leaving = threading.Event()
    with working(make_supervisor(), leaving.is_set):
        place.wait_for_step("one", 3)
        leaving.set()
        place.wait(job_id, Status.QUEUED)
    assert place.job(job_id).failures == 0
    assert make_supervisor("worker-2").work(never)
    job = place.job(job_id)
    assert (job.status, job.attempt) == (Status.SUCCEEDED, 2)
    assert place.steps("one") == list(range(30))


def test_a_paused_job_keeps_every_step_and_frees_its_worker(
    place: Workplace, make_supervisor: MakeSupervisor
) -> None:
    job_id = place.submit("one", steps=30)
    with working(make_supervisor()):
        place.wait_for_step("one", 3)
        asked = time.monotonic()
        pause(place, job_id)
        place.wait(job_id, Status.PAUSED)
    figure(f"pause of a running child: {time.monotonic() - asked:.1f} s")
    job = place.job(job_id)
    assert (job.failures, job.lease_until, job.worker_id) == (0, None, None)
    assert not alive(place.child_pids("one"))
    assert make_supervisor().work(never) is False, "it rests"
    with place.database.write() as session:
        repository.resume(session, place.owner_id, job_id)
    assert make_supervisor("worker-2").work(never)
    job = place.job(job_id)
    assert (job.status, job.attempt) == (Status.SUCCEEDED, 2)
    assert place.steps("one") == list(range(30)), "a step was lost or done twice"
    with place.database.read() as session:
        (weights,) = (file for file in list_artifacts(session, job) if file.name == "model/weights.bin")
    with place.store.open(weights.sha256) as file:
        assert file.read() == place.weights("one", 30), "bit for bit what it would have been"
    assert place.statuses(job_id) == [
        "queued", "running", "pausing", "paused", "queued", "running", "succeeded"
    ]  # fmt: skip


def test_a_child_deaf_to_a_pause_is_stopped_and_a_cancel_overtakes_it(
    place: Workplace, make_supervisor: MakeSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "PREEMPT_GRACE_SECONDS", 0.5)
    job_id = place.submit("one", steps=1000, mode="deaf")
    for end, expected in ((pause, Status.PAUSED), (cancel, Status.CANCELED)):
        with working(make_supervisor()):
            until(lambda: place.steps("one") != [], 30, lambda: "a step")
            pause(place, job_id)
            end(place, job_id)
            place.wait(job_id, expected)
        assert not alive(place.child_pids("one"))
        place.trace.unlink()
        with place.database.write() as session, suppress(Conflict):
            repository.resume(session, place.owner_id, job_id)


def test_a_lost_lease_kills_the_child_and_discards_its_work(
    place: Workplace, make_supervisor: MakeSupervisor
) -> None:
    """Somebody else has the job: this attempt must end, and must not touch the row."""
    job_id = place.submit("one", steps=1000)
    with working(make_supervisor()):
        place.wait_for_step("one")
        with place.database.write() as session:
            session.execute(update(Job).where(Job.id == job_id).values(attempt=2, worker_id="other"))
    assert not alive(place.child_pids("one"))
    job = place.job(job_id)
    assert (job.status, job.attempt, job.worker_id) == (Status.RUNNING, 2, "other")
    assert (place.settings.work_dir / "jobs" / job_id / "attempts/1/out/work/checkpoint.json").exists()


def test_a_finish_without_the_lease_publishes_nothing(
    place: Workplace, make_supervisor: MakeSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is taken away in the last moment: between the end of the child and the commit."""
    monkeypatch.setattr(heartbeat, "WRITE_SECONDS", 60.0)  # no renewal finds it out before
    put_file = place.store.put_file

    def lose_the_lease(path: Path) -> Stored:
        with place.database.write() as session:
            session.execute(update(Job).values(attempt=2, worker_id="other"))
        return put_file(path)

    monkeypatch.setattr(place.store, "put_file", lose_the_lease)
    job_id = place.submit("one", steps=1)
    assert make_supervisor(lease_seconds=300.0, heartbeat_seconds=60.0).work(never)
    job = place.job(job_id)
    assert (job.status, job.worker_id) == (Status.RUNNING, "other")
    with place.database.read() as session:
        assert list_artifacts(session, job) == []


def test_only_whole_checkpoints_of_the_newest_attempt_are_taken_over(
    place: Workplace, make_supervisor: MakeSupervisor
) -> None:
    job_id = place.submit("one", steps=6)
    attempts = place.settings.work_dir / "jobs" / job_id / "attempts"
    for number, done in ((1, 2), (2, 4)):
        work = attempts / str(number) / "out/work"
        work.mkdir(parents=True)
        (work / "checkpoint.json").write_text(json.dumps({"done": done}))
        (work / "checkpoint.tmp").write_text("half")
    (attempts / "3/out/work").mkdir(parents=True)  # died before its first checkpoint
    with place.database.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(attempt=3))
    assert make_supervisor().work(never)
    assert place.job(job_id).status == Status.SUCCEEDED
    assert place.steps("one") == [4, 5]


def test_a_full_store_is_tried_again_and_leaves_nothing_half_published(
    place: Workplace, make_supervisor: MakeSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = [True]
    put_file = place.store.put_file

    def put_when_there_is_room(path: Path) -> Stored:
        if full[0]:
            raise StorageFull("The disk has no room for this file.")
        return put_file(path)

    monkeypatch.setattr(place.store, "put_file", put_when_there_is_room)
    job_id = place.submit("one", steps=4)
    supervisor = make_supervisor(retry_backoff_seconds=0.0)
    assert supervisor.work(never)
    job = place.job(job_id)
    assert (job.status, job.failures) == (Status.QUEUED, 1)
    with place.database.read() as session:
        assert list_artifacts(session, job) == []
    full[0] = False
    assert supervisor.work(never)
    assert place.job(job_id).status == Status.SUCCEEDED
    assert place.steps("one") == [0, 1, 2, 3]  # the second attempt had only to publish


@pytest.mark.parametrize(("away_seconds", "succeeds"), [(1.5, True), (4.5, False)])
def test_the_end_is_written_when_the_database_is_back_if_the_lease_holds(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, away_seconds: float, succeeds: bool
) -> None:
    database = FlickeringDatabase(place.settings.database_url)
    put_file = place.store.put_file

    def go_away(path: Path) -> Stored:
        if not database.away:
            database.away = True
            threading.Timer(away_seconds, setattr, (database, "away", False)).start()
        return put_file(path)

    monkeypatch.setattr(place.store, "put_file", go_away)
    job_id = place.submit("one", steps=1)
    Supervisor(AtWork(database, place.store, place.settings, SLOW), worker_id="w").work(never)
    assert place.job(job_id).status == (Status.SUCCEEDED if succeeds else Status.RUNNING)
    with place.database.read() as session:
        assert bool(list_artifacts(session, place.job(job_id))) == succeeds
    database.away = False
    database.dispose()


def test_a_missing_input_names_itself(place: Workplace, make_supervisor: MakeSupervisor) -> None:
    job_id = place.submit("one")
    for sha256 in list(place.store.objects()):
        place.store.delete(sha256)
    assert make_supervisor().work(never)
    error = place.job(job_id).error
    assert error is not None
    assert error["code"] == "not_found"


def pause(place: Workplace, job_id: str) -> None:
    with place.database.write() as session:
        repository.pause(session, place.owner_id, job_id)


def cancel(place: Workplace, job_id: str) -> None:
    with place.database.write() as session:
        repository.cancel(session, place.owner_id, job_id)


def test_canceling_a_queued_job_needs_no_worker(place: Workplace, make_supervisor: MakeSupervisor) -> None:
    job_id = place.submit("one")
    cancel(place, job_id)
    assert place.job(job_id).status == Status.CANCELED
    assert make_supervisor().work(never) is False
    until(lambda: place.statuses(job_id) == ["queued", "canceled"], 1, lambda: "the event")
