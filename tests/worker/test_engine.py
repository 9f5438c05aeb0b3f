"""A whole job through the worker with the real engine: fetched from a hub, pruned, published."""

from pathlib import Path
from typing import Any

import pytest

from core.artifacts.repository import list_artifacts
from core.assets import repository as assets
from core.assets.hub import HubClient
from core.assets.tables import AssetStatus
from core.jobs.states import Status
from pruning.report import Report
from tests.support.data import write_dataset
from tests.support.foreseen import assert_foreseen
from tests.support.hub_server import HubServer, Repository, hub_server
from tests.support.models import save_tiny
from tests.support.workers import Workplace as Place
from worker.attempt import Stages, Workplace
from worker.supervisor import Supervisor

__all__ = ["hub_server"]

SPEC = {
    "target_ratio": 0.5,
    "method": "magnitude",
    "finetune": False,
    "recover": False,
    "evaluate": {"latency": False},
    "max_length": 32,
}


def never() -> bool:
    return False


@pytest.fixture
def supervisor(place: Place, hub_server: HubServer) -> Supervisor:
    patient = {"lease_seconds": 60.0, "heartbeat_seconds": 2.0, "hub_endpoint": hub_server.url}
    settings = place.settings.model_copy(update=patient)
    return Supervisor(Workplace(place.database, place.store, settings, Stages()), worker_id="worker-1")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def model(hub_server: HubServer, tmp_path: Path) -> Repository:
    return hub_server.add("model", "tiny/bert", contents(save_tiny(tmp_path / "model")))


@pytest.fixture
def dataset(hub_server: HubServer, tmp_path: Path) -> Repository:
    folder = write_dataset(tmp_path / "dataset", train=32, validation=16)
    return hub_server.add("dataset", "tiny/text", contents(folder))


def refer(place: Place, hub: HubServer) -> dict[str, Any]:
    """Rows of the model and dataset of the hub, as the API makes them."""
    client = HubClient(hub.url)
    with place.database.write() as session:
        model = assets.hub_model(session, place.owner_id, client.resolve_model("tiny/bert"))
        dataset = assets.hub_dataset(session, place.owner_id, client.resolve_dataset("tiny/text"))
    return {"model_id": model.id, "dataset_id": dataset.id}


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("model", "dataset")
def test_a_model_of_the_hub_is_fetched_pruned_and_published(
    place: Place, supervisor: Supervisor, hub_server: HubServer, tmp_path: Path
) -> None:
    inputs = refer(place, hub_server)
    job_id = place.submit(job={"spec": SPEC, "run_timeout_seconds": 300.0, **inputs})
    assert supervisor.work(never)
    job = place.job(job_id)
    assert job.status == Status.SUCCEEDED, job.error
    assert job.report is not None
    assert job.report["kind"] == "shrunk"
    with place.database.read() as session:
        names = {artifact.name for artifact in list_artifacts(session, job)}
        ready = assets.get(session, assets.Model, place.owner_id, inputs["model_id"])
    assert {"model/config.json", "report.json", "plan.json", "README.md"} <= names
    assert ready.status == AssetStatus.READY
    assert ready.parameters
    need = assert_foreseen(Report.model_validate(job.report), tmp_path / "model", tmp_path / "dataset").memory
    assert 1 / need.factor < job.report["peak_memory_bytes"] / (need.libraries + need.job) < need.factor
    phases = [data["phase"] for data in place.events(job_id, "phase")]
    assert phases[:2] == ["fetching", "fetching"]
    assert "exporting" in phases


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("model", "dataset")
def test_a_missed_latency_succeeds_and_says_so(place: Place, hub_server: HubServer) -> None:
    patient = {"lease_seconds": 60.0, "heartbeat_seconds": 2.0, "hub_endpoint": hub_server.url}
    settings = place.settings.model_copy(update=patient)
    stages = Stages(prune="tests.support.drifting_engine")
    supervisor = Supervisor(Workplace(place.database, place.store, settings, stages), worker_id="worker-1")
    timed = {"latency": False, "rounds": 3, "sequence_length": 16}
    spec = SPEC | {"target_ratio": 0.3, "target_measure": "latency", "evaluate": timed}
    job_id = place.submit(job={"spec": spec, "run_timeout_seconds": 300.0, **refer(place, hub_server)})
    assert supervisor.work(never)
    job = place.job(job_id)
    assert job.status == Status.SUCCEEDED, job.error
    assert job.report is not None
    found = job.report["latency_target"]
    assert found["missed"]
    assert found["measured"] < 0.05 < found["asked"] == 0.3 <= found["predicted"]
    assert job.report["target_missed"]


@pytest.mark.usefixtures("model", "dataset")
def test_a_hub_that_fails_is_asked_again_later(
    place: Place, supervisor: Supervisor, hub_server: HubServer
) -> None:
    job_id = place.submit(job={"spec": SPEC, **refer(place, hub_server)})
    hub_server.broken = True
    assert supervisor.work(never)
    job = place.job(job_id)
    assert (job.status, job.failures) == (Status.QUEUED, 1)
    assert [data["code"] for data in place.events(job_id, "attempt_lost")] == ["hub_unavailable"]


@pytest.mark.usefixtures("dataset")
def test_a_lying_file_of_the_hub_is_refused(
    place: Place, supervisor: Supervisor, hub_server: HubServer, model: Repository
) -> None:
    """The hub lists one file and sends another."""
    inputs = refer(place, hub_server)
    model.files["model.safetensors"] = model.files["model.safetensors"][:-1] + b"?"
    hub_server.repositories["model", "tiny/bert"] = model
    job_id = place.submit(job={"spec": SPEC, **inputs})
    assert supervisor.work(never)
    assert place.job(job_id).status in (Status.QUEUED, Status.FAILED)
    with place.database.read() as session:
        asset = assets.get(session, assets.Model, place.owner_id, inputs["model_id"])
    assert asset.status == AssetStatus.PENDING
