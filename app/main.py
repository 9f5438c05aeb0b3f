"""The application: `create_app(settings)`, or `uvicorn --factory app.main:app_from_env`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig

from app import errors
from app.access import require_declared
from app.account import routes as account
from app.artifacts import manifest_routes as manifests
from app.artifacts import routes as artifacts
from app.audit import routes as audit
from app.datasets import routes as datasets
from app.health import routes as health
from app.http.body_limit import BodyLimit
from app.http.envelope import Envelope
from app.jobs import event_routes as events
from app.jobs import log_routes as log
from app.jobs import plan_routes as plan
from app.jobs import routes as jobs
from app.keys import routes as keys
from app.methods import routes as methods
from app.metrics import routes as metrics
from app.models import routes as models
from app.openapi import document
from app.services import Services
from app.uploads import routes as uploads
from app.webhooks import delivery_routes as deliveries
from app.webhooks import routes as webhooks
from app.workers import routes as workers
from core.logs import configure_logging
from core.reconciler import Reconciler
from core.settings import Settings, settings_from_env
from core.tracing import provider, start_tracing, stop_tracing
from core.webhooks.courier import Courier
from core.webhooks.sender import Sender
from core.workers.repository import queues_heard

_DESCRIPTION = """\
Makes transformer models smaller and faster. Upload a model and labelled text, or name them on the hub; ask
for a ratio, follow the job, and download a model that is measured and that loads.

Every error is an RFC 9457 problem document with a stable `code` and JSON pointers into the request.
Every address but the health checks and the version needs an API key: `Authorization: Bearer prn_live_...`.
"""
SERVICE = "prunery-api"
"""The name of this process in traces."""

_ROOMS = (
    health,
    methods,
    models,
    datasets,
    uploads,
    plan,
    jobs,
    events,
    log,
    artifacts,
    manifests,
    webhooks,
    deliveries,
    account,
    keys,
    audit,
    workers,
    metrics,
)


def create_app(settings: Settings | None = None) -> FastAPI:
    """The service; its threads start and stop with the application's lifespan."""
    settings = settings or settings_from_env()
    services = Services.from_settings(settings)
    app = FastAPI(
        title="Prunery",
        version=version("prunery"),
        description=_DESCRIPTION,
        lifespan=_lifespan,
        redirect_slashes=False,
        redoc_url=None,
        telemetry=_telemetry(),
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    app.state.services = services
    for room in _ROOMS:
        app.include_router(room.router)
    require_declared(app)
    errors.install(app)
    app.openapi = partial(document, app)  # type: ignore[method-assign]  # FastAPI's way to extend its document
    app.add_middleware(BodyLimit, maximum=settings.max_body_bytes)
    app.add_middleware(Envelope)
    return app


def _telemetry() -> TelemetryConfig:
    """A span for each request where this process is traced; FastAPI's own ways of sending stay off."""
    traces = provider()
    return {
        "tracing": traces is not None,
        "tracer_provider": traces,
        "metrics": False,
        "logs": False,
        "auto_configure": False,
    }


def app_from_env() -> FastAPI:
    """The service as the environment's `PRUNERY_...` variables describe it."""
    settings = settings_from_env()
    configure_logging(settings)
    start_tracing(SERVICE)
    return create_app(settings)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    services: Services = app.state.services
    _ = services.signer.key  # a file that holds none is said now, not at the first result
    reconciler = Reconciler(
        services.database,
        services.store,
        services.settings,
        partial(_ring_again, services),
        chores=[services.signer.sign_new],
    )
    courier = Courier(services.database, services.settings, Sender(services.guard))
    services.doorbell.start()
    services.last_use.start()
    reconciler.start()
    courier.start()
    try:
        yield
    finally:
        await services.feed.close()
        courier.stop()
        reconciler.stop()
        services.doorbell.stop()
        services.last_use.stop()
        services.database.dispose()
        stop_tracing()


def _ring_again(services: Services, queue: str) -> None:
    """Ring for jobs that nobody heard of, if anybody can: rings that none takes would pile up, second by second."""
    with services.database.read() as session:
        heard = queues_heard(session)
    if queue in heard:
        services.doorbell.ring(queue)
