"""Which workers there are, and what they do."""

from fastapi import APIRouter

from app.access import needs
from app.deps import Asker, Door
from app.http.problem import problems
from app.workers.schemas import WorkerList, WorkerView
from core.accounts.scopes import Scope
from core.workers.repository import list_workers

router = APIRouter(prefix="/v1/workers", tags=["operations"], dependencies=[needs(Scope.OPERATIONS_READ)])


@router.get(
    "",
    operation_id="list_workers",
    summary="List the workers",
    responses=problems(401, 500, 503),
)
def show_workers(services: Door, caller: Asker) -> WorkerList:
    """Every worker process, oldest first, with its last sign of life.

    One that ended in order is gone; one that died is `stale`, and forgotten after PRUNERY_SWEEP_AFTER_HOURS.
    """
    with services.database.read() as session:
        return WorkerList(data=[WorkerView.of(worker) for worker in list_workers(session, caller.owner_id)])
