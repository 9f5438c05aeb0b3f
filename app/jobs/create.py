"""From a request to a queued job: find its inputs, plan it, refuse what cannot be done, write it once."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from app.datasets.complete import summarise_files
from app.jobs.references import FoundDataset, FoundModel, find_dataset, find_model
from app.jobs.request import JobRequest
from app.jobs.schemas import Choice
from app.jobs.teacher import check_tokenizers
from app.jobs.views import choice, job_view
from app.services import Services
from core.accounts.repository import Caller
from core.assets.files import FileRecord
from core.assets.repository import files_of
from core.assets.tables import Dataset
from core.jobs import idempotency, repository
from core.jobs.repository import NewJob
from pruning.data.rows import DataSummary
from pruning.planning.choose import choose
from pruning.planning.families import family_of
from pruning.planning.plan import Plan, resolve
from pruning.planning.settle import settle
from pruning.planning.shape import ModelShape
from pruning.planning.teacher import check_teacher
from pruning.spec import Columns, PruneSpec

ROUTE = "/v1/jobs"


@dataclass(frozen=True)
class Created:
    """The answer to a creation; `replayed` when it was given before under the same idempotency key."""

    document: dict[str, Any]
    replayed: bool = False


@dataclass(frozen=True)
class _Proposal:
    model: FoundModel
    teacher: FoundModel | None
    dataset: FoundDataset
    spec: PruneSpec
    plan: Plan | None

    @property
    def plan_json(self) -> dict[str, Any] | None:
        return None if self.plan is None else self.plan.model_dump(mode="json", exclude={"spec"})


def propose(services: Services, caller: Caller, request: JobRequest) -> Choice:
    """What the request would come to; writes nothing."""
    proposal = _propose(services, caller, request)
    return choice(proposal.spec, proposal.plan_json)


def create(
    services: Services, caller: Caller, request: JobRequest, idempotency_key: str | None, base: str
) -> Created:
    """Queue a job and ring for it; the same key with the same request gives the first answer again."""
    repeatable = _repeatable(caller, request, idempotency_key)
    if repeatable is not None and (known := _known(services, repeatable)) is not None:
        return known
    created = _write(services, caller, request, _propose(services, caller, request), repeatable, base)
    if not created.replayed:
        services.doorbell.ring(_queue(request))
    return created


def _propose(services: Services, caller: Caller, request: JobRequest) -> _Proposal:
    owner_id = caller.owner_id
    model = find_model(services, owner_id, request.model, "/model")
    asked = request.teacher
    teacher = None if asked is None else find_model(services, owner_id, asked, "/teacher")
    dataset = find_dataset(services, owner_id, request.dataset)
    spec, plan = request.spec(), None
    if dataset.row is None or dataset.row.summary is None:
        _check_without_data(spec, model, teacher)
    else:
        summary = _summary(services, dataset.row, spec.columns)
        plan = resolve(
            spec.model_copy(update={"columns": summary.named}),
            model.config,
            summary,
            teacher=teacher.config if teacher else None,
        )
        spec = plan.spec
    if teacher is not None:
        check_tokenizers(services, owner_id, model, teacher)
    return _Proposal(model, teacher, dataset, spec, plan)


def _summary(services: Services, dataset: Dataset, columns: Columns) -> DataSummary:
    """What the dataset holds; read again when the request names other columns than its completion did."""
    summary = DataSummary.model_validate(dataset.summary)
    asked = columns.model_dump(exclude_none=True)
    if all(getattr(summary, column) == name for column, name in asked.items()):
        return summary
    with services.database.read() as session:
        rows = files_of(session, dataset)
    files = [FileRecord(row.name, row.bytes, row.sha256) for row in rows]
    return summarise_files(services, files, columns)


def _check_without_data(spec: PruneSpec, model: FoundModel, teacher: FoundModel | None) -> None:
    """What can be refused while the dataset is still on the hub; the worker plans the rest when it has it."""
    shape = ModelShape.from_config(model.config)
    if spec.prunes and spec.method != "auto":
        family = family_of(model.config)
        settle(spec, choose(spec, trained=True, family=family), family, shape, trained=True)
    if teacher is not None:
        check_teacher(spec, model.config, teacher.config)


def _write(
    services: Services,
    caller: Caller,
    request: JobRequest,
    proposal: _Proposal,
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
            priority=request.priority,
            metadata=dict(request.metadata),
            run_timeout_seconds=request.timeout_s or settings.run_timeout_seconds,
        )
        job = repository.create(session, caller.owner_id, new)
        document = job_view(job, repository.queue_position(session, job), base).model_dump(mode="json")
        if repeatable is not None:
            idempotency.complete(session, repeatable, status=202, response=document, job_id=job.id)
    return Created(document)


def _queue(request: JobRequest) -> str:
    """Only a request for CUDA has to wait for a worker that has it; every worker takes from the queue `cpu`."""
    return "gpu" if request.device == "cuda" else "cpu"


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
