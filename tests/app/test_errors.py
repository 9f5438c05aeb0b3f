"""What goes wrong inside is told in the same form, without the inside."""

import json
import logging
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from fastapi.responses import StreamingResponse
from fastapi.testclient import TestClient

from app.errors import from_ledger
from app.main import create_app
from core.errors import LeaseLost
from core.logs import JsonLines
from tests.app.conftest import MakeSettings, Service, problem


def test_a_fault_says_nothing_of_the_inside(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    @service.app.get("/fault")
    def fault() -> None:
        raise RuntimeError("password=secret")

    with caplog.at_level(logging.ERROR):
        reply = service.client.get("/fault")
    document = problem(reply, 500, "internal_error")
    assert "secret" not in reply.text
    assert document["request_id"] in caplog.text
    assert "password=secret" in caplog.text


def test_a_fault_in_the_middle_of_a_reply_breaks_it_off(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    def half() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("password=secret")

    @service.app.get("/fault")
    def fault() -> StreamingResponse:
        return StreamingResponse(half())

    with pytest.raises(RuntimeError):
        service.client.get("/fault")
    assert "GET /fault failed." in caplog.text


def test_a_request_keeps_its_own_id_when_it_is_plain(service: Service) -> None:
    kept = service.client.get("/v1/jobs/none", headers={"X-Request-ID": "trace-1.2:3"})
    assert problem(kept, 404, "not_found")["request_id"] == "trace-1.2:3"
    for odd in ("", "a b", "x" * 129, "<script>"):
        made = service.client.get("/healthz", headers={"X-Request-ID": odd}).headers["x-request-id"]
        assert re.fullmatch(r"req_[0-9a-f]{16}", made)


def test_every_reply_has_the_safe_headers(service: Service) -> None:
    for path in ("/healthz", "/v1/jobs", "/nowhere"):
        headers = service.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "private, no-cache"


def test_a_database_that_is_away_is_503(make_settings: MakeSettings, tmp_path: Path) -> None:
    app = create_app(make_settings(database_url="postgresql://nobody@127.0.0.1:1/none"))
    key = "prn_live_" + "0" * 49
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        for path in ("/readyz",):
            reply = client.get(path)
            problem(reply, 503, "database_unavailable")
            assert int(reply.headers["retry-after"]) > 0
        assert client.get("/healthz").status_code == 200


def test_a_database_that_breaks_is_503_for_a_request_too(service: Service, tmp_path: Path) -> None:
    path = Path(service.services.settings.database_url.removeprefix("sqlite:///"))
    service.services.database.dispose()
    path.rename(tmp_path / "away.db")
    path.mkdir()
    problem(service.client.get("/v1/jobs"), 503, "database_unavailable")
    path.rmdir()
    (tmp_path / "away.db").rename(path)
    assert service.client.get("/v1/jobs").status_code == 200


def test_a_store_that_cannot_be_written_is_not_ready(service: Service) -> None:
    root = service.services.settings.store_dir
    (root / "incoming").rename(root / "elsewhere")
    problem(service.client.get("/readyz"), 503, "store_unavailable")
    (root / "elsewhere").rename(root / "incoming")
    assert service.client.get("/readyz").json()["status"] == "ready"


def test_an_error_that_is_a_fault_of_ours_is_not_translated() -> None:
    with pytest.raises(LeaseLost):
        from_ledger(LeaseLost("lost"))


def test_json_log_lines_of_a_request_name_it(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of the thread that answers it."""
    lines = StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(JsonLines())
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    app = create_app(make_settings(database_url="postgresql://nobody@127.0.0.1:1/none"))
    with TestClient(app) as client:
        assert client.get("/readyz", headers={"X-Request-ID": "trace-1"}).status_code == 503
    (line,) = [json.loads(text) for text in lines.getvalue().splitlines() if "Not ready" in text]
    assert line["request_id"] == "trace-1"
