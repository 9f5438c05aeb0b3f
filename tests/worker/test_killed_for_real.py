"""Real jobs whose workers are killed with -9 at random moments end with the bytes of a job that nobody disturbed."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.artifacts.repository import list_artifacts
from core.assets import repository as assets
from core.assets.hub import HubClient
from core.jobs.states import TERMINAL, Status
from tests.support.data import write_dataset
from tests.support.hub_server import HubServer
from tests.support.models import save_tiny
from tests.support.workers import Workplace, figure, terminate, until

KILLS = 5
SAME = ("model/model.safetensors", "model/config.json", "masks.safetensors")
COMMON = {
    "target_ratio": 0.5,
    "granularity": "structured",
    "seed": 1,
    "max_length": 32,
    "evaluate": {"latency": False},
    "checkpoint_seconds": 5.0,
}
REQUESTS: dict[str, dict[str, Any]] = {
    "leap": COMMON
    | {
        "method": "leap",
        "settings": {"max_steps": 700},
        "finetune": {"max_steps": 300},
        "recover": {"max_steps": 200},
    },
    "kprune": COMMON | {"method": "kprune", "finetune": {"max_steps": 200}},
}


@pytest.fixture
def place(tmp_path: Path, sqlite_url: str, hub_server: HubServer) -> Iterator[Workplace]:
    """A workplace whose leases outlast a busy machine's pauses."""
    place = Workplace(
        tmp_path,
        sqlite_url,
        lease_seconds=6.0,
        heartbeat_seconds=1.0,
        max_failures=100,
        worker_threads=1,
        hub_endpoint=hub_server.url,
    )
    yield place
    place.close()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("method", REQUESTS)
def test_five_kills_change_no_byte(
    method: str, place: Workplace, hub_server: HubServer, tmp_path: Path
) -> None:
    publish(hub_server, tmp_path)
    inputs = refer(place, hub_server)
    calm = submit(place, method, inputs)
    assert run(place, calm, kills=0) == []
    disturbed = submit(place, method, inputs)
    moments = run(place, disturbed, kills=KILLS)
    assert len(moments) == KILLS
    attempts = place.job(disturbed).attempt
    assert attempts == KILLS + 1
    expected = hashes(place, calm)
    assert set(expected) == set(SAME)
    assert hashes(place, disturbed) == expected
    at = ", ".join(f"{moment:.0%}" for moment in moments)
    figure(f"{method}: killed at {at} of the job, {attempts} attempts, {expected[SAME[0]][:16]} both times")


def publish(hub: HubServer, folder: Path) -> None:
    for kind, name, files in (
        ("model", "tiny/bert", save_tiny(folder / "model", layers=4, hidden=64, ffn=256)),
        ("dataset", "tiny/text", write_dataset(folder / "dataset", train=2048, validation=128)),
    ):
        hub.add(kind, name, {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()})


def refer(place: Workplace, hub: HubServer) -> dict[str, str]:
    """Rows of the model and dataset of the hub, as the API makes them."""
    client = HubClient(hub.url)
    with place.database.write() as session:
        model = assets.hub_model(session, place.owner_id, client.resolve_model("tiny/bert"))
        dataset = assets.hub_dataset(session, place.owner_id, client.resolve_dataset("tiny/text"))
    return {"model_id": model.id, "dataset_id": dataset.id}


def submit(place: Workplace, method: str, inputs: dict[str, str]) -> str:
    return place.submit(job={"spec": REQUESTS[method], "run_timeout_seconds": 900.0, **inputs})


def run(place: Workplace, job_id: str, *, kills: int) -> list[float]:
    """Let workers finish a job, killing each but the last at a random moment of a further part of the job.

    Returns the progress at each kill.
    """
    chance = random.Random(0)
    due = [(part + chance.random()) / kills for part in range(kills)]
    moments: list[float] = []
    while True:
        with place.worker(module="worker") as worker:
            until(lambda: is_over(place, job_id) or far(place, job_id, due), 600, lambda: job_id)
            if is_over(place, job_id):
                assert terminate(worker) == 0
                return moments
            worker.kill()
            moments.append(place.job(job_id).progress)
            due.pop(0)


def is_over(place: Workplace, job_id: str) -> bool:
    return place.job(job_id).status in TERMINAL


def far(place: Workplace, job_id: str, due: list[float]) -> bool:
    """Whether a running job has come to the next kill."""
    job = place.job(job_id)
    return bool(due) and job.status == Status.RUNNING and job.progress >= due[0]


def hashes(place: Workplace, job_id: str) -> dict[str, str]:
    job = place.job(job_id)
    assert job.status == Status.SUCCEEDED, job.error
    with place.database.read() as session:
        return {each.name: each.sha256 for each in list_artifacts(session, job) if each.name in SAME}
