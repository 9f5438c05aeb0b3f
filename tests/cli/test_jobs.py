"""The commands against the real service; a test plays the worker."""

import json
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete, update

from client import PruneryClient
from core.jobs import logs
from core.jobs.events import NewEvent
from core.jobs.logs import Tail
from core.signing.tables import Signature
from core.workers.repository import WorkerRecord, beat, leave
from core.workers.tables import Worker
from tests.cli.conftest import Prunery
from tests.support.api import RESULT, Api


@pytest.fixture
def job(online: Prunery, model_folder: Path, dataset_file: Path) -> str:
    code, out, err = online(
        "submit",
        "--model",
        str(model_folder),
        "--dataset",
        str(dataset_file),
        "--ratio",
        "0.5",
        "--seed",
        "7",
    )
    assert code == 0, err
    assert "README.md" in err
    assert "kprune at 0.5 of flops, sequence-classification" in err
    assert "no living worker can run it: it waits for a worker" in err
    return out.strip()


def test_a_job_is_listed_paused_resumed_and_canceled(online: Prunery, job: str) -> None:
    code, out, _ = online("list", "--status", "queued")
    assert code == 0
    assert job in out
    assert online("pause", job) == (0, "paused\n", "")
    assert online("resume", job) == (0, "queued\n", "")
    assert online("cancel", job) == (0, "canceled\n", "")
    code, _, err = online("resume", job)
    assert code == 2
    assert "cannot resume any more" in err
    assert job not in online("list", "--status", "queued")[1]
    code, _, err = online("watch", job)
    assert code == 1
    assert err.endswith("canceled\n")


def test_a_dry_run_shows_the_plan_and_makes_no_job(
    online: Prunery, model_folder: Path, dataset_file: Path
) -> None:
    given = ("--model", str(model_folder), "--dataset", str(dataset_file), "--ratio", "0.5")
    code, out, err = online("submit", *given, "--dry-run", "--method", "leap", "--set", "method.max_steps=10")
    assert code == 0, err
    proposal = json.loads(out)
    assert proposal["method"] == "leap"
    assert proposal["spec"]["settings"]["max_steps"] == 10
    assert "job_" not in out


def test_devices_are_part_of_the_request(online: Prunery, model_folder: Path, dataset_file: Path) -> None:
    given = ("--model", str(model_folder), "--dataset", str(dataset_file), "--ratio", "0.5", "--dry-run")
    code, out, err = online("submit", *given, "--devices", "2", "--set", "recover.batch_size=8")
    assert code == 0, err
    assert json.loads(out)["spec"]["devices"] == 2
    code, _, err = online("submit", *given, "--devices", "2")
    assert code != 0
    assert "devices" in err


def test_a_drop_of_quality_in_place_of_a_ratio(
    online: Prunery, model_folder: Path, dataset_file: Path
) -> None:
    given = ("submit", "--model", str(model_folder), "--dataset", str(dataset_file), "--max-drop", "2")
    code, out, err = online(*given)
    assert code == 0, err
    assert "kprune at <= 2 points of flops" in err
    assert "<= 2 points" in online("list", "--status", "queued")[1]
    assert online("cancel", out.strip())[0] == 0
    code, _, err = online(*given, "--ratio", "0.5")
    assert code == 2
    assert "one of --ratio and --max-drop" in err


def test_a_vocabulary_needs_no_target(online: Prunery, model_folder: Path, dataset_file: Path) -> None:
    given = ("--model", str(model_folder), "--dataset", str(dataset_file), "--granularity", "vocabulary")
    code, out, err = online("submit", *given)
    assert code == 0, err
    assert "tokens that the dataset needs" in err
    assert online("cancel", out.strip())[0] == 0


def test_a_missed_latency_is_told(online: Prunery, api: Api, model_folder: Path, dataset_file: Path) -> None:
    given = ("--model", str(model_folder), "--dataset", str(dataset_file), "--ratio", "0.5")
    code, out, err = online("submit", *given, "--measure", "latency")
    assert code == 0, err
    missed = {"target_missed": True, "latency_target": {"asked": 0.5, "measured": 0.25}}
    api.succeed(api.take(out.strip()), **missed)
    code, _, err = online("watch", out.strip())
    assert code == 0
    assert "slower than asked: 25.0% of the latency is gone, asked were 50.0%" in err


def test_a_teacher_is_uploaded_like_a_model(
    online: Prunery, api: Api, model_folder: Path, dataset_file: Path
) -> None:
    given = ("--model", str(model_folder), "--dataset", str(dataset_file), "--ratio", "0.5")
    leap = ("--method", "leap", "--set", "method.max_steps=100")
    code, out, err = online("submit", *given, *leap, "--teacher", str(model_folder))
    assert code == 0, err
    with PruneryClient(api.url, api.key) as client:
        job = client.cancel(out.strip())
    assert job.teacher is not None
    assert job.teacher != job.model
    code, _, err = online("submit", *given, "--teacher", "no such folder")
    assert code == 2
    assert "--teacher" in err


def test_a_job_is_watched_and_brought(online: Prunery, api: Api, job: str, tmp_path: Path) -> None:
    claimed = api.take(job)
    api.report(
        claimed,
        [NewEvent("phase", {"phase": "pruning"}), NewEvent("warning", {"code": "x", "message": "careful"})],
    )
    threading.Timer(1, api.succeed, [claimed]).start()
    code, out, err = online("watch", job)
    assert (code, out) == (0, "")
    assert f"{job}: pruning\n" in err
    assert f"{job}: careful\n" in err
    assert err.endswith("succeeded\n")
    code, out, err = online("download", job)
    assert (code, out) == (0, f"{job}\n")
    found = {path.relative_to(tmp_path / job).as_posix() for path in (tmp_path / job).rglob("*.*")}
    assert found == {*RESULT, "manifest.json"}
    with PruneryClient(api.url, api.key) as client:
        (key_id,) = client.signing_keys()
    assert err == f"signed by key {key_id}\n"
    assert online("verify", job, "--key", key_id)[0] == 0
    assert online("download", job, "--archive") == (0, f"{job}.tar\n", "")
    assert (tmp_path / f"{job}.tar").stat().st_size > len(RESULT["model/model.safetensors"])
    with api.database.write() as session:
        session.execute(delete(Signature).where(Signature.job_id == job))
    code, _, err = online("download", job, "old")
    assert code == 0
    assert err == f"{job} is not signed: it is older than signing, and nobody vouches for its files\n"
    assert online("verify", "old")[0] == 1


def test_a_failed_job_says_why_and_which_field(online: Prunery, api: Api, job: str) -> None:
    api.fail(api.take(job), "Line 3 has no label.", "/dataset")
    code, _, err = online("watch", job)
    assert code == 1
    assert err.endswith("failed: /dataset: Line 3 has no label.\n")
    code, _, err = online("download", job)
    assert code == 2
    assert err.startswith("error: ")


def test_the_methods_are_listed(online: Prunery) -> None:
    code, out, _ = online("methods")
    assert code == 0
    assert {"kprune", "leap", "magnitude"} <= set(out.split())


def test_the_workers_are_listed(online: Prunery, api: Api) -> None:
    with api.database.write() as session:
        beat(session, WorkerRecord("host:1:ab", "gpu", 2, ["0", "1"]))
        session.execute(update(Worker).values(heartbeat_at=datetime(2026, 8, 1, 12, tzinfo=UTC)))
    code, out, _ = online("workers")
    with api.database.write() as session:
        leave(session, "host:1:ab")
    assert code == 0
    assert "gpu, cpu" in out
    assert "0, 1" in out
    assert "2026-08-01 12:00:00 stale" in out


def test_the_log_is_shown_as_it_is(online: Prunery, api: Api, job: str) -> None:
    assert online("log", job) == (0, "", "")
    claimed = api.take(job)
    with api.database.write() as session:
        logs.write(session, job, claimed.token.attempt, Tail("[red]one[/red]\ntwo\n", 19))
    assert online("log", job) == (0, "[red]one[/red]\ntwo\n", "")
    assert online("log", job, "--bytes", "5", "--attempt", "1") == (0, "two\n", "")
    code, _, err = online("log", job, "--attempt", "2")
    assert (code, "no log of attempt 2" in err) == (2, True)
    api.succeed(claimed)


def test_a_plan_is_shown_and_makes_no_job(online: Prunery, model_folder: Path, dataset_file: Path) -> None:
    given = ("plan", "--model", str(model_folder), "--dataset", str(dataset_file), "--granularity", "head")
    code, out, err = online(*given, "--ratio", "0.3", "--method", "magnitude")
    assert code == 0, err
    assert "magnitude, head, sequence-classification: 0.3 removed of flops" in out
    assert "within a factor of 2" in out
    assert "at an assumed 20 GFLOP/s" in out
    assert "warning: The dataset has no validation split" in err
    code, out, err = online(*given, "--ratio", "0.3", "--method", "kprune", "--json")
    found = json.loads(out)
    assert (code, found["duration"]["seconds"]) == (0, None)
    (heads,) = found["forecast"]["units"]
    assert heads["removed"]["least"] == heads["removed"]["most"] > 0
    sizes = found["forecast"]["before"]["parameters"]
    assert sizes["least"] == sizes["most"]  # the files hold the head that the task needs
    assert "job_" not in out


def test_a_plan_out_of_reach_shows_the_nearest(
    online: Prunery, model_folder: Path, dataset_file: Path
) -> None:
    given = ("plan", "--model", str(model_folder), "--dataset", str(dataset_file))
    code, out, err = online(*given, "--ratio", "0.999", "--method", "kprune")
    assert code == 1
    assert "out of reach: target_ratio 0.999 of flops" in err
    nearest = err.split("nearest reachable target_ratio is ")[1].split(".\n")[0]
    assert f"{nearest} removed of flops" in out
