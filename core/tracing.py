"""Traces of requests and jobs (OpenTelemetry), where the standard OTEL_* variables ask for them.

Where they do not, nothing is loaded and every call here does nothing.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

log = logging.getLogger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"

_provider: Any = None


def start_tracing(service: str) -> None:
    """Export spans by OTLP over HTTP when an endpoint is set; `service` is the name unless OTEL_SERVICE_NAME is.

    To be called once, by the entry point of a process. What is asked for and cannot be done is logged.
    """
    global _provider
    if not _wanted():
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        log.warning("Traces are asked for by OTEL_... and cannot be sent: install prunery[otel].")
        return
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": service}
    _provider = TracerProvider(resource=Resource.create(named))
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))


def stop_tracing() -> None:
    """Send what was not sent yet, and trace no more."""
    global _provider
    if _provider is not None:
        _provider.shutdown()
        _provider = None


def provider() -> Any:
    """What makes tracers, for libraries that trace by themselves; None while nothing is traced."""
    return _provider


def traceparent() -> str | None:
    """The span that is current here, as the W3C header of that name; None while nothing is traced."""
    if _provider is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


class Span:
    """A part of a trace that has begun; one that is not traced takes everything and does nothing."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def note(self, **attributes: str | int | float) -> None:
        """Add attributes; their names get the prefix `prunery.`."""
        if self._span is not None:
            self._span.set_attributes(_named(attributes))

    def fail(self, message: str) -> None:
        """Mark what it stands for as failed."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_status(Status(StatusCode.ERROR, message))

    def end(self) -> None:
        """Say that it is over."""
        if self._span is not None:
            self._span.end()


def begin(name: str, **attributes: str | int | float) -> Span:
    """A span below the current one; the caller ends it."""
    if _provider is None:
        return Span()
    return Span(_tracer().start_span(name, attributes=_named(attributes)))


@contextmanager
def span(name: str, *, parent: str | None = None, **attributes: str | int | float) -> Iterator[Span]:
    """A span that is current in the block, below that of the header `parent`; without one it begins a trace."""
    if _provider is None:
        yield Span()
        return
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    above = TraceContextTextMapPropagator().extract({"traceparent": parent} if parent else {})
    with _tracer().start_as_current_span(name, context=above, attributes=_named(attributes)) as found:
        yield Span(found)


def _wanted() -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    exporter = os.environ.get("OTEL_TRACES_EXPORTER") or "otlp"
    if exporter == "none" or not any(os.environ.get(name) for name in _ENDPOINTS):
        return False
    protocol = next((value for name in _PROTOCOLS if (value := os.environ.get(name))), _PROTOCOL)
    if exporter != "otlp" or protocol != _PROTOCOL:
        log.warning("Traces are sent by otlp over %s only, not by %s over %s.", _PROTOCOL, exporter, protocol)
        return False
    return True


def _tracer() -> Any:
    return _provider.get_tracer("prunery")


def _named(attributes: dict[str, Any]) -> dict[str, Any]:
    return {f"prunery.{name}": value for name, value in attributes.items()}
