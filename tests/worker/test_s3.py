"""Jobs whose inputs and results lie in S3, also when it fails in the middle."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.artifacts.configured import configured_store
from core.artifacts.repository import list_artifacts
from core.assets.files import FileRecord
from core.errors import StoreUnavailable
from core.inputs import materialise
from core.jobs.states import Status
from core.settings import Settings
from tests.support.s3_server import Fault, FaultyServer, S3Server
from tests.support.workers import Workplace
from worker.attempt import Stages
from worker.attempt import Workplace as AtWork
from worker.supervisor import Supervisor

SLOW = Stages(prune="tests.support.slow_engine")


@pytest.fixture
def place(
    tmp_path: Path, sqlite_url: str, s3_settings: dict[str, Any], faulty_s3: FaultyServer, hasty_s3: None
) -> Iterator[Workplace]:
    """A workplace whose store is a bucket."""
    settings = s3_settings | {"s3_endpoint_url": faulty_s3.url, "retry_backoff_seconds": 0.0}
    place = Workplace(tmp_path, sqlite_url, **settings)
    yield place
    place.close()


def never() -> bool:
    return False


def assert_whole(place: Workplace, job_id: str) -> None:
    """The job has succeeded, once, with the right bytes."""
    job = place.job(job_id)
    assert job.status == Status.SUCCEEDED
    assert place.statuses(job_id).count("succeeded") == 1
    with place.database.read() as session:
        artifacts = {artifact.name: artifact.sha256 for artifact in list_artifacts(session, job)}
    with place.store.open(artifacts["model/weights.bin"]) as file:
        assert file.read() == place.weights("one", 3)


def test_a_worker_process_takes_from_s3_and_brings_there(place: Workplace) -> None:
    job_id = place.submit("one", steps=3)
    with place.worker():
        place.wait(job_id)
    assert_whole(place, job_id)
    assert not place.settings.store_dir.exists()


def test_results_are_brought_again_when_s3_failed_amid_them(
    place: Workplace, faulty_s3: FaultyServer
) -> None:
    job_id = place.submit("one", steps=3)
    before = set(place.store.objects())
    puts: list[str] = []

    def second_of_three(method: str, path: str) -> Fault | None:
        if method != "PUT":
            return None
        puts.append(path)
        return "cut request" if path != puts[0] else None

    faulty_s3.fault = second_of_three
    supervisor = Supervisor(AtWork(place.database, place.store, place.settings, SLOW), worker_id="w")
    assert supervisor.work(never)
    job = place.job(job_id)
    assert (job.status, job.failures) == (Status.QUEUED, 1)
    with place.database.read() as session:
        assert list_artifacts(session, job) == []
    assert len(set(place.store.objects()) - before) == 1  # named by nobody: the sweep's
    faulty_s3.fault = lambda method, path: None
    assert supervisor.work(never)
    assert_whole(place, job_id)
    assert place.steps("one") == [0, 1, 2]  # the second attempt had only to publish


def test_inputs_are_fetched_again_when_s3_failed(place: Workplace, faulty_s3: FaultyServer) -> None:
    job_id = place.submit("one", steps=3)
    faulty_s3.fault = lambda method, path: "refuse" if method == "GET" else None
    supervisor = Supervisor(AtWork(place.database, place.store, place.settings, SLOW), worker_id="w")
    assert supervisor.work(never)
    assert (place.job(job_id).status, place.job(job_id).failures) == (Status.QUEUED, 1)
    faulty_s3.fault = lambda method, path: None
    assert supervisor.work(never)
    assert_whole(place, job_id)


def test_an_input_of_other_bytes_is_refused(
    s3_settings: dict[str, Any], s3_server: S3Server, bucket: Path, tmp_path: Path
) -> None:
    store = configured_store(Settings(data_dir=tmp_path, **s3_settings))
    stored = store.put([b"right"])
    key = f"some/prefix/sha256/{stored.sha256[:2]}/{stored.sha256}"
    s3_server.client().put_object(Bucket=bucket.name, Key=key, Body=b"wrong")
    with pytest.raises(StoreUnavailable, match="damaged"):
        materialise(store, [FileRecord("config.json", 5, stored.sha256)], tmp_path / "inputs")
