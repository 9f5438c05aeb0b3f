"""`GET /metrics`, for Prometheus."""

from fastapi import APIRouter, Depends
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from app.access import NeedsUnlessPublic
from app.deps import Door
from app.http.problem import problems
from app.metrics.families import Scrape
from core.accounts.scopes import Scope
from core.jobs.statistics import active_jobs
from core.webhooks.outbox import count_pending
from core.workers.repository import list_workers

router = APIRouter(tags=["operations"], dependencies=[Depends(NeedsUnlessPublic(Scope.OPERATIONS_READ))])

_EXAMPLE = 'prunery_jobs{queue="cpu",status="queued"} 3.0\n'


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Read the metrics",
    response_class=PlainTextResponse,
    responses=problems(401, 500, 503, besides={200: {"content": {"text/plain": {"example": _EXAMPLE}}}}),
)
def show_metrics(services: Door) -> PlainTextResponse:
    """How the jobs of all owners and the workers fare, in Prometheus' text format.

    Everything is read from the database, so every API process says the same. PRUNERY_METRICS_PUBLIC lets it
    be read without a key.
    """
    with services.database.read() as session:
        active, workers, pending = active_jobs(session), list_workers(session), count_pending(session)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(
        Scrape(active, services.ended_jobs.totals(), workers, services.rates.fallbacks, pending)
    )
    return PlainTextResponse(generate_latest(registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)
