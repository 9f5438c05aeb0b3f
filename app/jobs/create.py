"""From a request that can be done to a queued job, written once."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from app.jobs.propose import Proposal, propose
from app.jobs.request import JobRequest
from app.jobs.views import job_view
from app.services import Services
from core.accounts import quotas
from core.accounts.repository import Caller
from core.audit import log as audit
from core.jobs import idempotency, repository
from core.jobs.repository import NewJob
from core.queues import queue_for
from core.tracing import traceparent

ROUTE = "/v1/jobs"


@dataclass(frozen=True)
class Created:
    """The answer to a creation; `replayed` when it was given before under the same idempotency key."""

    document: dict[str, Any]
    replayed: bool = False


def create(
    services: Services, caller: Caller, request: JobRequest, idempotency_key: str | None, base: str
) -> Created:
    """Queue a job and ring for it; the same key with the same request gives the first answer again."""
    repeatable = _repeatable(caller, request, idempotency_key)
    if repeatable is not None and (known := _known(services, repeatable)) is not None:
        return known
    created = _write(services, caller, request, propose(services, caller, request), repeatable, base)
    if not created.replayed:
        services.doorbell.ring(_queue(request))
    return created


def _write(
    services: Services,
    caller: Caller,
    request: JobRequest,
    proposal: Proposal,
    repeatable: idempotency.Request | None,
    base: str,
) -> Created:
    settings, teacher = services.settings, proposal.teacher
    shown = {"model": proposal.model.shown, "dataset": proposal.dataset.shown}
    if teacher is not None:
        shown["teacher"] = teacher.shown
    with services.database.write() as session:
        if repeatable is not None:
            replay = idempotency.begin(session, repeatable, hours=settings.idempotency_hours)
            if replay is not None:
                return Created(replay.response, replayed=True)
        quotas.check_new_job(session, caller.owner_id, services.quotas)
        new = NewJob(
            request=request.as_sent() | shown,
            spec=proposal.spec.model_dump(mode="json"),
            plan=proposal.plan_json,
            model_id=proposal.model.stored(session, caller.owner_id),
            model_job_id=proposal.model.job_id,
            teacher_id=None if teacher is None else teacher.stored(session, caller.owner_id),
            teacher_job_id=None if teacher is None else teacher.job_id,
            dataset_id=proposal.dataset.stored(session, caller.owner_id),
            queue=_queue(request),
            gpus=0 if request.device == "cpu" else request.devices,
            gpu_memory_gib=request.gpu_memory_gib or 0,
            priority=request.priority,
            metadata=dict(request.metadata),
            traceparent=traceparent(),
            run_timeout_seconds=request.timeout_s or settings.run_timeout_seconds,
        )
        job = repository.create(session, caller.owner_id, new)
        quotas.check_stored(session, caller.owner_id, services.quotas)
        audit.record(session, caller, "job.create", job.id)
        outlook = services.forecaster.outlook(session, job)
        document = job_view(job, outlook, base).model_dump(mode="json")
        if repeatable is not None:
            idempotency.complete(session, repeatable, status=202, response=document, job_id=job.id)
    return Created(document)


def _queue(request: JobRequest) -> str:
    """Only a request for CUDA has to wait for a worker that has it; every worker takes from the queue `cpu`."""
    return queue_for(needs_gpu=request.device == "cuda", gpu_memory_gib=request.gpu_memory_gib or 0)


def _repeatable(caller: Caller, request: JobRequest, key: str | None) -> idempotency.Request | None:
    if key is None:
        return None
    text = json.dumps(request.as_sent(), sort_keys=True, separators=(",", ":"))
    fingerprint = hashlib.sha256(text.encode()).hexdigest()
    return idempotency.Request(caller.owner_id, key, "POST", ROUTE, fingerprint)


def _known(services: Services, request: idempotency.Request) -> Created | None:
    """The stored answer, looked for first: a repeated request needs neither the hub nor the planner again."""
    with services.database.read() as session:
        replay = idempotency.find(session, request)
    return None if replay is None else Created(replay.response, replayed=True)
