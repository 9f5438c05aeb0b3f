"""What happened to a job: events as a page, by long-poll or as a stream, and metrics."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse

from app.access import needs
from app.deps import Asker, Door, JobId
from app.http.accept import choose
from app.http.envelope import is_head
from app.http.problem import problems
from app.jobs.schemas import EventPage, Metric, MetricsView
from app.jobs.stream import Batch, ReadBatch, next_batch, server_sent_events
from app.jobs.views import event_view
from app.services import Services
from core.accounts.repository import Caller
from core.accounts.scopes import Scope
from core.jobs import repository
from core.jobs.states import TERMINAL

router = APIRouter(prefix="/v1/jobs/{job_id}", tags=["events"], dependencies=[needs(Scope.JOBS_READ)])

JSON, STREAM = "application/json", "text/event-stream"
MAX_WAIT_SECONDS = 30
_STREAM_PAGE = 500
_SSE_EXAMPLE = (
    'id: 7\nevent: progress\ndata: {"seq":7,"type":"progress","data":{"fraction":0.4},"at":"..."}\n\n'
)


@router.get(
    "/events",
    operation_id="list_events",
    summary="Follow what happens to a job",
    response_model=EventPage,
    responses=problems(
        401,
        404,
        406,
        422,
        500,
        503,
        besides={
            200: {"content": {STREAM: {"schema": {"type": "string"}, "example": _SSE_EXAMPLE}}},
            204: {
                "description": "Nothing will follow: the job is over and Last-Event-ID names its last event."
            },
        },
    ),
)
async def list_events(
    request: Request,
    services: Door,
    caller: Asker,
    job_id: JobId,
    after_seq: Annotated[int, Query(ge=0, lt=2**53, description="Only events behind this number.")] = 0,
    wait: Annotated[
        float,
        Query(ge=0, le=MAX_WAIT_SECONDS, description="Seconds to wait for an event that is not there yet."),
    ] = 0,
    limit: Annotated[int, Query(ge=1, le=500, description="Most events of one page.")] = 100,
    last_event_id: Annotated[
        str | None,
        Header(pattern=r"^[0-9]{1,15}$", description="The last event of a stream that broke off."),
    ] = None,
) -> Response:
    """A page of events, at once or when the next one comes; as a stream with `Accept: text/event-stream`.

    A stream ends when the job is over. Each event's id is its `seq`.
    """
    wanted = choose(request.headers.get("accept"), (JSON, STREAM))
    if wanted == STREAM:
        return await _stream(request, services, caller, job_id, max(after_seq, int(last_event_id or 0)))
    patience = 0 if is_head(request.scope) else wait
    read = _reader(services, caller, job_id, limit)
    batch = await next_batch(read, services.feed, job_id, after_seq, patience)
    last = batch.events[-1].seq if batch.events else after_seq
    page = EventPage(data=batch.events, has_more=batch.more, next_after_seq=last)
    return JSONResponse(page.model_dump(mode="json"))


@router.get(
    "/metrics",
    operation_id="get_metrics",
    summary="Get the metrics of a job",
    responses=problems(401, 404, 422, 500, 503),
)
def get_metrics(services: Door, caller: Asker, job_id: JobId) -> MetricsView:
    """The latest value of every metric, and the values over time."""
    with services.database.read() as session:
        job = repository.get(session, caller.owner_id, job_id)
        rows = repository.events(session, caller.owner_id, job_id, types=("metric",), limit=10_000)
    history = [
        Metric(name=str(row.data["name"]), value=row.data["value"], step=row.data.get("step"), at=row.at)
        for row in rows
    ]
    return MetricsView(latest=job.metrics, history=history)


async def _stream(
    request: Request, services: Services, caller: Caller, job_id: str, after_seq: int
) -> Response:
    read = _reader(services, caller, job_id, _STREAM_PAGE)
    first = await run_in_threadpool(read, after_seq)
    if first.ended and not first.events and after_seq:
        return Response(status_code=204)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if is_head(request.scope):
        return Response(headers=headers, media_type=STREAM)
    body = server_sent_events(read, services.feed, job_id, first, after_seq)
    return StreamingResponse(body, headers=headers, media_type=STREAM)


def _reader(services: Services, caller: Caller, job_id: str, limit: int) -> ReadBatch:
    def read(after_seq: int) -> Batch:
        with services.database.read() as session:
            job = repository.get(session, caller.owner_id, job_id)
            rows = repository.events(session, caller.owner_id, job_id, after_seq=after_seq, limit=limit + 1)
        more = len(rows) > limit
        return Batch(
            [event_view(row) for row in rows[:limit]], more=more, ended=job.status in TERMINAL and not more
        )

    return read
