"""Asking what a job would do and need, without making one."""

from fastapi import APIRouter

from app.access import needs
from app.deps import Asker, Door, JsonBody
from app.http.problem import problems
from app.jobs import plan
from app.jobs.plan import PlanView
from app.jobs.request import JobRequest
from core.accounts.scopes import Scope

# It writes nothing: whoever may read jobs may ask.
router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[needs(Scope.JOBS_READ, Scope.JOBS_READ)])


@router.post(
    "/plan",
    operation_id="plan_job",
    summary="Plan before pruning",
    dependencies=[JsonBody],
    responses=problems(400, 401, 404, 409, 413, 415, 422, 500, 502, 503),
)
def plan_job(services: Door, caller: Asker, body: JobRequest) -> PlanView:
    """Say what a job of this request would do and need: units, sizes before and after, memory, time, warnings.

    Counted in the API from config.json, the header of the weights and the summary of the dataset: no worker is
    asked and nothing is written. What `POST /v1/jobs` refuses is refused alike, but for a ratio out of reach, which is
    answered with the plan of the nearest.
    """
    return plan.plan(services, caller, body)
