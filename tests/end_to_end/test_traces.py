"""One trace from the request through the ledger and a real worker process to the phases of the job."""

import secrets
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import update

from app.main import create_app
from core.accounts.repository import create_key
from core.jobs.states import Status
from core.jobs.tables import Job
from core.tracing import start_tracing, stop_tracing, traceparent
from tests.support.collector import Collector, Received, collecting
from tests.support.uploads import dataset_files, model_files
from tests.support.workers import Workplace, terminate, until

SWITCHES = (
    "OTEL_SDK_DISABLED",
    "OTEL_TRACES_EXPORTER",
    "OTEL_SERVICE_NAME",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
)


@pytest.fixture(autouse=True)
def no_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SWITCHES, "OTEL_EXPORTER_OTLP_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


def post_job(place: Workplace, headers: dict[str, str]) -> str:
    """A job that was made over HTTP, for the slow engine."""
    with place.database.write() as session:
        _, key = create_key(session, place.owner_id, "key")
    with TestClient(create_app(place.settings), headers={"Authorization": f"Bearer {key}"}) as client:
        ids = {}
        for collection, files in (("models", model_files()), ("datasets", dataset_files())):
            ids[collection] = client.post(f"/v1/{collection}", json={"name": "x"}).json()["id"]
            for name, content in files.items():
                client.put(f"/v1/{collection}/{ids[collection]}/files/{name}", content=content)
            client.post(f"/v1/{collection}/{ids[collection]}/complete")
        body = {"model": ids["models"], "dataset": ids["datasets"], "target_ratio": 0.5}
        reply = client.post("/v1/jobs", json=body, headers=headers)
        assert reply.status_code == 202, reply.text
    engine = {"name": "one", "steps": 2, "step_seconds": 0.01, "trace": str(place.trace)}
    with place.database.write() as session:
        session.execute(update(Job).values(spec={"settings": engine}))
    return str(reply.json()["id"])


def only(collector: Collector, name: str) -> Received:
    (found,) = collector.named(name)
    return found


def test_the_spans_of_a_job_are_one_trace(
    tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, caller = Workplace(tmp_path, sqlite_url), secrets.token_hex(16)
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        start_tracing("prunery-api")
        try:
            job_id = post_job(place, {"traceparent": f"00-{caller}-{secrets.token_hex(8)}-01"})
        finally:
            stop_tracing()
        with place.worker(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as worker:
            place.wait(job_id, Status.SUCCEEDED)
            assert terminate(worker) == 0
        until(lambda: bool(collector.named("job attempt")), 10, lambda: "the worker's spans")
    request, attempt = only(collector, "POST /v1/jobs"), only(collector, "job attempt")
    phase = only(collector, "phase pruning")
    assert {span.trace_id for span in (request, attempt, phase)} == {caller}
    parents = {span.span_id: span.parent_id for span in collector.spans if span.service == "prunery-api"}
    above = attempt.parent_id
    while above != request.span_id:  # FastAPI traces the parts of a request too
        above = parents[above]
    assert phase.parent_id == attempt.span_id
    assert [span.service for span in (request, attempt)] == ["prunery-api", "prunery-worker"]
    assert attempt.attributes == {
        "prunery.job_id": job_id,
        "prunery.attempt": "1",
        "prunery.status": "succeeded",
    }
    assert not attempt.failed
    assert "prn_live_" not in repr(collector.spans)
    place.close()


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER": "none"}, ""),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "http/protobuf only, not by otlp over grpc",
        ),
    ],
)
def test_nothing_is_traced_unless_it_is_asked_for(
    variables: dict[str, str],
    said: str,
    tmp_path: Path,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    start_tracing("prunery-api")
    assert traceparent() is None
    assert said in caplog.text
    assert bool(said) == bool(caplog.records)
    if not variables:
        place = Workplace(tmp_path, sqlite_url)
        job_id = post_job(place, {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
        assert place.job(job_id).traceparent is None
        place.close()
