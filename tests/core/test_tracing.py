"""What tracing does where it cannot, and that a failure is marked as one; whole traces are in tests/end_to_end."""

import sys

import pytest

from core import tracing
from tests.support.collector import collecting


@pytest.fixture(autouse=True)
def one_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", *tracing._PROTOCOLS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")


def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    tracing.start_tracing("test")
    assert "install prunery[otel]" in caplog.text
    assert tracing.provider() is None
    with tracing.span("nothing") as span:
        span.fail("does nothing")


def test_what_failed_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        tracing.start_tracing("test")
        try:
            for name in ("good", "bad"):
                span = tracing.begin(name)
                if name == "bad":
                    span.fail("it broke")
                span.end()
        finally:
            tracing.stop_tracing()
    assert {span.name: span.failed for span in collector.spans} == {"good": False, "bad": True}
