"""The embedded service as a person meets it: started by its command, used over HTTP, ended by a signal."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from client import Job
from tests.support.embedded import COMMAND, Served, served, wait_until
from tests.support.models import save_tiny
from tests.support.reviews import write_reviews

pytestmark = pytest.mark.timeout(600)

LOAD = """
import sys
from transformers import AutoModelForSequenceClassification, AutoTokenizer
model = AutoModelForSequenceClassification.from_pretrained(sys.argv[1])
tokens = AutoTokenizer.from_pretrained(sys.argv[1])(["a good film", "bad"], padding=True, return_tensors="pt")
print(*model(**tokens).logits.shape)
"""
SMALL: dict[str, Any] = {
    "max_length": 16,
    "evaluate": {"rounds": 3, "sequence_length": 16, "batch_sizes": [1]},
    "metadata": {"made": "by a test"},
}
METHODS: dict[str, Any] = {
    "kprune": "kprune",
    "leap": {"name": "leap", "max_steps": 12, "learning_rate": 1e-3},
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("inputs")
    return save_tiny(folder / "model"), write_reviews(folder / "reviews.jsonl")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("service") / "data") as service:
        yield service


def submit(service: Served, inputs: tuple[Path, Path], method: Any) -> Job:
    with service.client() as client:
        model, dataset = client.upload_model(inputs[0]), client.upload_dataset(inputs[1])
        return client.submit(model.id, dataset.id, 0.5, method=method, **SMALL)


def test_the_key_is_for_its_owner_only(service: Served) -> None:
    path = service.data_dir / "api-key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert service.data_dir.stat().st_mode & 0o077 == 0
    assert str(path) in service.said()
    assert service.key not in service.said()


def test_a_taken_port_is_one_clear_line(service: Served, tmp_path: Path) -> None:
    port = service.url.rpartition(":")[2]
    run = subprocess.run(
        [*COMMAND, "--port", port, "--data-dir", str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert run.stderr.startswith(f"error: PRUNERY_PORT: {port} is taken on 127.0.0.1")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("method", METHODS)
def test_a_model_goes_the_whole_circle(
    service: Served, inputs: tuple[Path, Path], tmp_path: Path, method: str
) -> None:
    job = submit(service, inputs, METHODS[method])
    assert (job.method, job.granularity, job.target_measure) == (method, "structured", "flops")
    with service.client() as client:
        events = list(client.watch(job.id))
        assert [event.seq for event in events] == sorted({event.seq for event in events})
        job = client.job(job.id)
        assert job.status == "succeeded", job.error
        client.download(job.id, tmp_path)
    phases = [event.data["phase"] for event in events if event.type == "phase"]
    assert phases[0] == "loading"
    assert "pruning" in phases
    report = json.loads((tmp_path / "report.json").read_text("utf-8"))
    assert report["kind"] == "shrunk"
    assert 0.5 <= report["delivered"]["flops"] < 0.6
    assert report["after"]["flops"] < report["before"]["flops"]
    run = subprocess.run(
        [sys.executable, "-P", "-c", LOAD, str(tmp_path / "model")],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.stdout.split() == ["2", "2"], run.stderr[-1000:]


def test_a_worker_that_dies_is_replaced(service: Served) -> None:
    serving = psutil.Process(service.process.pid)
    (worker,) = serving.children()  # by what it is, not by its title: Celery changes that where it can
    worker.kill()
    wait_until(lambda: [child for child in serving.children() if child != worker], service)


def test_ctrl_c_leaves_no_process_and_the_next_start_goes_on(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    with served(tmp_path / "data") as service:
        job = submit(service, inputs, {"name": "leap", "max_steps": 100_000})
        with service.client() as client:
            wait_until(lambda: client.job(job.id).phase not in (None, "loading"), service)
        key, family = service.key, service.family()
        assert len(family) >= 3, "the service, its worker and the job"
        assert service.interrupt() == 0
        assert not [process for process in family if process.is_running()]
    with served(tmp_path / "data") as service:
        assert service.key == key
        assert "made by an earlier start" in service.said()
        with service.client() as client:
            wait_until(lambda: client.job(job.id).attempt == 2, service)
            client.cancel(job.id)
            assert client.wait(job.id, timeout=60).status == "canceled"
        assert service.interrupt() == 0


def test_a_killed_service_takes_its_worker_along(tmp_path: Path) -> None:
    with served(tmp_path / "data") as service:
        family = service.family()
        assert len(family) >= 2
        os.kill(service.process.pid, signal.SIGKILL)
        gone, alive = psutil.wait_procs(family[1:], timeout=10)
        assert not alive
        assert gone
