"""What a job would do and need, said before there is one."""

from typing import Any

from pydantic import BaseModel, Field

from app.jobs.duration import Duration, duration
from app.jobs.propose import Proposal, propose
from app.jobs.request import JobRequest
from app.jobs.schemas import Choice
from app.jobs.views import choice
from app.services import Services
from core.accounts.repository import Caller
from core.jobs.durations import similar_runs
from pruning.errors import TargetUnreachable
from pruning.forecast.forecast import forecast
from pruning.forecast.schemas import Forecast
from pruning.planning.parameters import bounds


class TargetView(BaseModel):
    """Whether the asked target can be reached; all else is about `nearest`."""

    asked: float | None = Field(
        description="target_ratio; null where max_quality_drop is given in its place."
    )
    reachable: bool
    nearest: float | None = Field(description="The reachable ratio that is nearest to what was asked.")
    message: str | None = Field(description="Why it is out of reach, and what to do.")


class PlanView(Choice):
    """What a job would do and need; of a dataset that is not fetched from the hub yet nothing can be counted."""

    target: TargetView
    forecast: Forecast | None
    duration: Duration | None


def plan(services: Services, caller: Caller, request: JobRequest) -> PlanView:
    """Plan a request; a ratio out of reach is answered with the nearest that can be had. Raises what `propose` does."""
    target = TargetView(
        asked=request.target_ratio, reachable=True, nearest=request.target_ratio, message=None
    )
    try:
        proposal = propose(services, caller, request)
    except TargetUnreachable as unreachable:
        proposal = _nearest(services, caller, request, unreachable)
        target = target.model_copy(
            update={"reachable": False, "nearest": unreachable.nearest, "message": str(unreachable)}
        )
    chosen = choice(proposal.spec, proposal.plan_json).model_dump()
    return PlanView(**chosen, target=target, **_counted(services, caller, proposal))


def _nearest(
    services: Services, caller: Caller, request: JobRequest, unreachable: TargetUnreachable
) -> Proposal:
    """The proposal for the nearest ratio; raises `unreachable` where that is none either."""
    if not unreachable.nearest:
        raise unreachable
    try:
        return propose(services, caller, request.model_copy(update={"target_ratio": unreachable.nearest}))
    except TargetUnreachable:
        raise unreachable from None


def _counted(services: Services, caller: Caller, proposal: Proposal) -> dict[str, Any]:
    planned, data = proposal.plan, proposal.data
    if planned is None or data is None:
        return {"forecast": None, "duration": None}
    found = forecast(planned, proposal.model.config, data, _parameters(proposal))
    with services.database.read() as session:
        runs = similar_runs(session, caller.owner_id, method=planned.method, device=planned.spec.device)
    return {"forecast": found, "duration": duration(planned, found.work, runs)}


def _parameters(proposal: Proposal) -> int | None:
    """How many parameters the model has, where its files hold the head that the task needs, and nothing else."""
    planned, found = proposal.plan, proposal.model.parameters
    if planned is None or found is None or not planned.trained_head:
        return None
    least, most = bounds(proposal.model.config, planned.shape)
    return found if least <= found <= most else None
