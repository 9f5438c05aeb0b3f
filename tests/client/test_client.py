"""The client against the real service, without a worker."""

import hashlib
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from client import ApiProblem, Job, Log, NotVerified, PruneryClient, UploadBroken, WaitTimeout
from core.jobs import logs
from core.jobs.events import NewEvent
from core.jobs.logs import Tail
from core.workers.repository import WorkerRecord, beat, leave
from tests.support.api import RESULT, Api

Submit = Callable[..., Job]


@pytest.fixture(scope="session")
def assets(api: Api, model_folder: Path, dataset_file: Path) -> tuple[str, str]:
    with PruneryClient(api.url, api.key) as client:
        return client.upload_model(model_folder).id, client.upload_dataset(dataset_file).id


@pytest.fixture
def submit(client: PruneryClient, assets: tuple[str, str]) -> Submit:
    return lambda **fields: client.submit(*assets, 0.5, **fields)


def test_an_upload_is_ready_and_listed(client: PruneryClient, model_folder: Path, dataset_file: Path) -> None:
    sent: list[int] = []
    model = client.upload_model(model_folder, name="mine", sent=lambda _, count: sent.append(count))
    dataset = client.upload_dataset(dataset_file)
    assert (model.name, model.status, model.model_type) == ("mine", "ready", "bert")
    assert sum(sent) == model.bytes == sum(file.bytes for file in model.files)
    assert (dataset.name, dataset.status, [file.name for file in dataset.files]) == (
        "reviews",
        "ready",
        ["train.jsonl"],
    )
    assert dataset.summary is not None
    assert client.model(model.id) in client.models()
    assert client.dataset(dataset.id) in client.datasets()
    client.delete_model(model.id)
    client.delete_dataset(dataset.id)
    assert model.id not in {other.id for other in client.models()}
    with pytest.raises(ApiProblem) as caught:
        client.dataset(dataset.id)
    assert caught.value.status == 404


def test_bytes_that_change_on_the_way_are_noticed(dataset_file: Path) -> None:
    def storing_other_bytes(request: httpx.Request) -> httpx.Response:
        request.read()
        return httpx.Response(201, json={"id": "dst_1"}, headers={"ETag": f'"{"0" * 64}"'})

    transport = httpx.MockTransport(storing_other_bytes)
    with PruneryClient(transport=transport) as client, pytest.raises(UploadBroken, match=r"train\.jsonl"):
        client.upload_dataset(dataset_file)


def test_the_choice_is_stated_and_a_dry_run_makes_no_job(
    client: PruneryClient, assets: tuple[str, str], submit: Submit
) -> None:
    before = {job.id for job in client.jobs()}
    proposal = client.validate(*assets, 0.5)
    assert (proposal.method, proposal.task, proposal.target_measure) == (
        "kprune",
        "sequence-classification",
        "flops",
    )
    assert proposal.plan
    assert {job.id for job in client.jobs()} == before
    job = submit(metadata={"team": "search"})
    assert (job.status, job.method, job.metadata) == ("queued", "kprune", {"team": "search"})
    assert job.spec == proposal.spec
    assert client.job(job.id) == job


def test_one_idempotency_key_makes_one_job(client: PruneryClient, submit: Submit) -> None:
    jobs = {submit(idempotency_key="once").id for _ in range(3)}
    assert len(jobs) == 1
    with pytest.raises(ApiProblem) as caught:
        submit(idempotency_key="once", seed=1)
    assert caught.value.status == 422


def test_a_refusal_names_the_field(submit: Submit) -> None:
    with pytest.raises(ApiProblem) as caught:
        submit(granularity="sideways")
    assert caught.value.status == 422
    assert [field.pointer for field in caught.value.errors] == ["/granularity"]
    assert str(caught.value).startswith("/granularity: ")


def test_lists_go_over_every_page(client: PruneryClient, api: Api, submit: Submit) -> None:
    made = [submit(seed=seed).id for seed in range(23)]
    listed = [job.id for job in client.jobs(status="queued")]
    assert listed[:23] == made[::-1]
    assert len(listed) == len(set(listed))
    for job_id in made:
        client.cancel(job_id)
    assert not {job.id for job in client.jobs(status="queued")} & set(made)


def test_a_job_is_paused_resumed_canceled_and_then_deleted(client: PruneryClient, submit: Submit) -> None:
    job = submit()
    with pytest.raises(ApiProblem) as caught:
        client.delete_job(job.id)
    assert caught.value.status == 409
    with pytest.raises(WaitTimeout):
        client.wait(job.id, timeout=0.2, poll_seconds=0.1)
    assert client.pause(job.id).status == "paused"
    resumed = client.resume(job.id)
    assert (resumed.status, resumed.waiting_for, resumed.device_seconds) == ("queued", "a worker", 0.0)
    assert client.cancel(job.id).status == "canceled"
    assert client.wait(job.id, timeout=1).over
    client.delete_job(job.id)
    with pytest.raises(ApiProblem, match=job.id):
        client.job(job.id)


def test_another_key_sees_nothing(api: Api, submit: Submit) -> None:
    job = submit()
    with PruneryClient(api.url, api.other_key) as stranger:
        assert list(stranger.jobs()) == []
        with pytest.raises(ApiProblem) as caught:
            stranger.job(job.id)
    assert caught.value.status == 404


def test_a_wrong_key_is_refused(api: Api) -> None:
    with PruneryClient(api.url, "prn_live_wrong") as client, pytest.raises(ApiProblem) as caught:
        list(client.jobs())
    assert caught.value.status == 401


def test_methods_come_with_the_schema_of_their_settings(client: PruneryClient) -> None:
    methods = {method.name: method for method in client.methods()}
    assert {"kprune", "leap", "magnitude"} <= set(methods)
    assert "structured" in methods["kprune"].granularities
    assert methods["leap"].settings_schema["properties"]
    assert client.version().version


def test_workers_are_listed_with_the_jobs_that_are_ones_own(
    client: PruneryClient, api: Api, submit: Submit
) -> None:
    record = WorkerRecord("test", "gpu", 2, ["0", "1"])
    with api.database.write() as session:
        beat(session, record)
    job = submit(priority=100)  # before what other tests left in the queue
    claimed = api.take(job.id)
    (worker,) = client.workers()
    assert (worker.id, worker.queues, worker.devices) == ("test", ("gpu", "cpu"), ("0", "1"))
    assert (worker.running, worker.jobs, worker.stale) == (1, (job.id,), False)
    with PruneryClient(api.url, api.other_key) as stranger:
        assert [(other.running, other.jobs) for other in stranger.workers()] == [(1, ())]
    api.succeed(claimed)
    with api.database.write() as session:
        leave(session, record.id)
    assert client.workers() == ()


def work(api: Api, job_id: str) -> None:
    """Play the worker: claim the job, report three times, and publish a result."""
    claimed = api.take(job_id)
    for step in range(3):
        progress = NewEvent("progress", {"phase": "pruning", "fraction": step / 3, "message": ""})
        loss = 1.0 / (step + 1)
        api.report(
            claimed, [progress, NewEvent("metric", {"name": "loss", "value": loss, "step": step})], loss=loss
        )
    api.succeed(claimed)


@pytest.fixture
def finished(client: PruneryClient, api: Api, submit: Submit) -> Job:
    for job in client.jobs(status="queued"):
        client.cancel(job.id)
    job = submit()
    thread = threading.Thread(target=work, args=(api, job.id))
    thread.start()
    types = [event.type for event in client.watch(job.id)]
    thread.join()
    assert types.count("metric") == 3
    assert types[-1] == "status"
    return client.job(job.id)


def test_a_watched_job_ends_with_results_that_can_be_brought(
    client: PruneryClient, finished: Job, tmp_path: Path
) -> None:
    assert finished.status == "succeeded"
    assert client.metrics(finished.id).latest["loss"] == pytest.approx(1 / 3)
    assert [metric.step for metric in client.metrics(finished.id).history] == [0, 1, 2]
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors.part").write_bytes(RESULT["model/model.safetensors"][:777])
    paths = client.download(finished.id, tmp_path)
    assert {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in paths} == RESULT
    assert {artifact.sha256 for artifact in client.artifacts(finished.id)} == {
        hashlib.sha256(content).hexdigest() for content in RESULT.values()
    }


def test_the_model_comes_as_one_archive(client: PruneryClient, finished: Job, tmp_path: Path) -> None:
    client.download_archive(finished.id, tmp_path / "model.tar")
    with tarfile.open(tmp_path / "model.tar") as archive:
        assert {Path(name).name for name in archive.getnames()} == {"config.json", "model.safetensors"}
    assert [path.name for path in tmp_path.iterdir()] == ["model.tar"]


def test_a_manifest_that_the_service_does_not_stand_by_brings_nothing(
    client: PruneryClient, finished: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = client.artifacts(finished.id)[1:]
    monkeypatch.setattr(PruneryClient, "artifacts", lambda *_: others)
    with pytest.raises(NotVerified, match="lists other files"):
        client.download(finished.id, tmp_path)
    monkeypatch.setattr(PruneryClient, "signing_keys", lambda _: ("another",))
    for bring in (client.download, client.download_archive):
        with pytest.raises(NotVerified, match="no key of this service"):
            bring(finished.id, tmp_path / "result")
    assert list(tmp_path.iterdir()) == []


def test_a_running_job_has_no_artifacts_yet(client: PruneryClient, submit: Submit, tmp_path: Path) -> None:
    with pytest.raises(ApiProblem) as caught:
        client.download(submit().id, tmp_path)
    assert (caught.value.status, caught.value.code) == (409, "not_ready")
    with pytest.raises(ApiProblem):
        client.download_archive(submit().id, tmp_path / "model.tar")
    assert list(tmp_path.iterdir()) == []


def test_the_end_of_a_log(client: PruneryClient, api: Api, submit: Submit) -> None:
    job_id = submit(priority=99).id
    assert client.log(job_id) == Log(attempt=0, bytes=0, text="")
    claimed = api.take(job_id)
    with api.database.write() as session:
        logs.write(session, job_id, claimed.token.attempt, Tail("one\ntwo\n", 8))
    assert client.log(job_id, attempt=1, max_bytes=5) == Log(attempt=1, bytes=8, text="two\n")
    api.succeed(claimed)


def test_a_plan_is_typed(client: PruneryClient, assets: tuple[str, str]) -> None:
    plan = client.plan(*assets, 0.5, method="kprune")
    assert (plan.target.reachable, plan.method) == (True, "kprune")
    assert plan.forecast is not None
    assert plan.forecast.after is not None
    assert plan.forecast.after.weights.most < plan.forecast.before.weights.least
    assert [group.unit for group in plan.forecast.units] == ["head", "neuron"]
    assert plan.duration is not None
    assert not client.plan(*assets, 0.999, method="kprune").target.reachable
