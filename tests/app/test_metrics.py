"""What Prometheus reads is what the ledger holds, whoever asks which API process, at a bounded cost."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event, insert, update

from app.main import create_app
from app.services import Services
from core.clock import now
from core.db import Database
from core.jobs import leases, statistics
from core.jobs.attempts import JobError
from core.jobs.states import RetryPolicy, Status
from core.jobs.statistics import SETTLE_SECONDS, EndedJobs
from core.jobs.tables import Job
from core.settings import Settings
from core.workers.repository import WorkerRecord, beat
from core.workers.tables import Worker
from tests.app.conftest import MakeSettings, Service, problem
from tests.support.ledger import make_job, make_owner

HOUR = timedelta(hours=1)
Samples = dict[tuple[str, tuple[str, ...]], float]


def samples(text: str) -> Samples:
    """Every sample by its name and the values of its labels, in the order of their names."""
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(client: TestClient) -> Samples:
    reply = client.get("/metrics")
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(reply.text)


def buckets(found: Samples, name: str) -> dict[str, float]:
    """A histogram of the queue `cpu` by upper bound."""
    return {
        labels[0]: value
        for (sample, labels), value in found.items()
        if sample == f"{name}_bucket" and labels[1] == "cpu"
    }


@contextmanager
def statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """The SQL that the block sends, with its parameters."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        sent.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def services(client: TestClient) -> Services:
    """What the application behind a client works with."""
    found = client.app.state.services  # type: ignore[attr-defined]  # it is a FastAPI
    assert isinstance(found, Services)
    return found


def backdate(database: Database, job_id: str, **seconds: float) -> None:
    """Move moments of a job so many seconds into the past."""
    with database.write() as session:
        at = now(session)
        values = {name: at - timedelta(seconds=ago) for name, ago in seconds.items()}
        session.execute(update(Job).where(Job.id == job_id).values(**values))


@pytest.fixture
def other_service(database_url: str, make_settings: MakeSettings) -> Iterator[TestClient]:
    """The application on either database, with the metrics open."""
    settings = make_settings(database_url=database_url, metrics_public=True)
    with TestClient(create_app(settings)) as client:
        yield client


def test_nothing_happened_yet_is_all_zeros(service: Service) -> None:
    found = scrape(service.client)
    assert ("prunery_jobs", ("gpu", "running")) in found
    assert ("prunery_jobs_ended_total", ("cpu", "succeeded")) in found
    assert ("prunery_jobs_failed_total", ("infrastructure", "gpu")) in found
    assert ("prunery_job_run_seconds_count", ("cpu",)) in found
    assert set(found.values()) == {0.0}


def test_jobs_are_counted_from_the_queue_to_their_end(database: Database, other_service: TestClient) -> None:
    """On both databases: two that wait, one that runs, one of each ending."""
    with database.write() as session:
        owner = make_owner(session)
        ids = [make_job(session, owner).id for _ in range(5)]
    claims = []
    for job_id in ids[:3]:
        with database.write() as session:
            claim = leases.claim(session, worker_id="worker", queues=("cpu",), lease_seconds=60)
        assert claim is not None
        assert claim.token.job_id == job_id
        claims.append(claim)
    with database.write() as session:
        leases.finish(session, claims[0].token, artifacts=[], report={})
        leases.fail(session, claims[1].token, JobError("invalid_data", "user", "No."), RetryPolicy())
    backdate(database, ids[0], created_at=1000.0, started_at=960.0, finished_at=200.0)
    backdate(database, ids[1], created_at=9.0, started_at=8.5, finished_at=0.5)
    backdate(database, ids[3], created_at=500.0)

    found = scrape(other_service)
    assert found["prunery_jobs", ("cpu", "queued")] == 2
    assert found["prunery_jobs", ("cpu", "running")] == 1
    assert 500 <= found["prunery_oldest_queued_job_age_seconds", ("cpu",)] < 560
    assert found["prunery_oldest_queued_job_age_seconds", ("gpu",)] == 0
    assert found["prunery_jobs_ended_total", ("cpu", "succeeded")] == 1
    assert found["prunery_jobs_ended_total", ("cpu", "failed")] == 1
    assert found["prunery_jobs_ended_total", ("cpu", "canceled")] == 0
    assert found["prunery_jobs_failed_total", ("user", "cpu")] == 1
    assert found["prunery_jobs_failed_total", ("bug", "cpu")] == 0
    waits = buckets(found, "prunery_job_wait_seconds")
    assert [waits[bound] for bound in ("1.0", "5.0", "15.0", "60.0", "+Inf")] == [1, 1, 1, 2, 2]
    assert found["prunery_job_wait_seconds_sum", ("cpu",)] == pytest.approx(40.5, abs=0.1)
    runs = buckets(found, "prunery_job_run_seconds")
    assert [runs[bound] for bound in ("10.0", "300.0", "900.0", "+Inf")] == [1, 1, 2, 2]
    assert found["prunery_job_run_seconds_sum", ("cpu",)] == pytest.approx(768, abs=0.1)


def test_a_job_canceled_in_the_queue_has_no_waiting_time(service: Service) -> None:
    job_id = service.job()["id"]
    assert service.client.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
    found = scrape(service.client)
    assert found["prunery_jobs_ended_total", ("cpu", "canceled")] == 1
    assert found["prunery_job_wait_seconds_count", ("cpu",)] == 0


def test_every_api_process_says_the_same(service: Service, settings: Settings) -> None:
    """One that counted from the start, and one that only begins to."""
    scrape(service.client)
    service.finished({"report.json": b"{}"})
    second = create_app(settings.model_copy(update={"metrics_public": True}))
    with TestClient(second) as client:
        ended = {key: value for key, value in scrape(client).items() if "oldest" not in key[0]}
    assert ended == {key: value for key, value in scrape(service.client).items() if "oldest" not in key[0]}
    assert ended["prunery_jobs_ended_total", ("cpu", "succeeded")] == 1


def test_an_end_that_is_committed_late_is_counted_once(database: Database) -> None:
    """Each end names an earlier moment than the last reading; counting from the start is the reference."""
    ended = EndedJobs(database)
    with database.write() as session:
        owner = make_owner(session)
        ids = [make_job(session, owner).id for _ in range(4)]
    for count, (job_id, part) in enumerate(zip(ids, (0.5, 2, 0.9, 0), strict=True), start=1):
        if part < 1:
            assert ended.totals().ended["cpu", "canceled"] == count - 1
        backdate(database, job_id, finished_at=part * SETTLE_SECONDS)
        with database.write() as session:
            session.execute(update(Job).where(Job.id == job_id).values(status="canceled"))
        if part > 1:  # later than is promised: only who begins now counts it
            ended = EndedJobs(database)
        for _ in range(2):
            assert ended.totals().ended == EndedJobs(database).totals().ended == {("cpu", "canceled"): count}


def test_what_is_settled_is_not_read_again(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing to wait for, each end is settled by the reading after it, and stays counted."""
    monkeypatch.setattr(statistics, "SETTLE_SECONDS", 0.0)
    ended = EndedJobs(database)
    for count in range(1, 4):
        with database.write() as session:
            job_id = make_job(session).id
            session.execute(
                update(Job).where(Job.id == job_id).values(status="canceled", finished_at=now(session))
            )
        for _ in range(2):
            assert ended.totals().ended == {("cpu", "canceled"): count}


def test_workers_and_their_devices_are_counted(service: Service) -> None:
    database = service.services.database
    with database.write() as session:
        beat(session, WorkerRecord("one", "gpu", 2, ["0", "1"]))
        beat(session, WorkerRecord("test", "cpu", 1, []))
        beat(session, WorkerRecord("dead", "cpu", 8, []))
        session.execute(
            update(Worker)
            .where(Worker.id == "dead")
            .values(heartbeat_at=now(session) - timedelta(seconds=61))
        )
    service.job()
    service.claim()
    found = scrape(service.client)
    assert found["prunery_workers", ("alive", "gpu")] == 1
    assert found["prunery_workers", ("alive", "cpu")] == 1
    assert found["prunery_workers", ("stale", "cpu")] == 1
    assert found["prunery_worker_slots", ("cpu",)] == 1
    assert found["prunery_worker_devices", ("gpu",)] == 2
    assert found["prunery_worker_running_jobs", ("cpu",)] == 1


def test_a_scrape_is_a_handful_of_short_reads_however_many_jobs_there_were(
    database: Database, other_service: TestClient
) -> None:
    with database.write() as session:
        job, at = make_job(session), now(session)
        row = {name: getattr(job, name) for name in Job.__mapper__.column_attrs.keys()}  # noqa: SIM118
        row |= {"status": Status.SUCCEEDED, "started_at": at - 2 * HOUR, "finished_at": at - HOUR}
        session.execute(insert(Job), [row | {"id": f"job_{number:026d}"} for number in range(5000)])
    scrape(other_service)
    behind = services(other_service).database
    with statements(behind) as sent:
        found = scrape(other_service)
    assert found["prunery_jobs_ended_total", ("cpu", "succeeded")] == 5000
    assert found["prunery_jobs", ("cpu", "queued")] == 1
    assert len(sent) <= 8, sent
    if behind.engine.dialect.name == "sqlite":
        with behind.read() as session:
            for statement, parameters in sent:
                plan = session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                assert not [step for *_, step in plan if step.startswith("SCAN jobs")], statement


def test_metrics_need_a_key_unless_they_are_public(service: Service, make_settings: MakeSettings) -> None:
    problem(service.client.get("/metrics", headers={"Authorization": ""}), 401, "unauthorized")
    with TestClient(create_app(make_settings(metrics_public=True))) as client:
        assert "prunery_jobs" in client.get("/metrics").text


def test_no_name_of_an_owner_or_job_is_shown(service: Service) -> None:
    job_id = service.job()["id"]
    service.claim()
    reply = service.client.get("/metrics")
    assert reply.status_code == 200
    text = reply.text
    assert not any(value in text for value in (job_id, service.owner_id, service.key))
