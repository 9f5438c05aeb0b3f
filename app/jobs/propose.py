"""What a request would come to: its inputs found, planned, and refused when it cannot be done; writes nothing."""

from dataclasses import dataclass
from typing import Any

from app.datasets.complete import summarise_files
from app.jobs.references import FoundDataset, FoundModel, find_dataset, find_model
from app.jobs.request import JobRequest
from app.jobs.teacher import check_tokenizers
from app.services import Services
from core.accounts.repository import Caller
from core.assets.files import FileRecord
from core.assets.repository import files_of
from core.assets.tables import Dataset
from pruning.data.rows import DataSummary
from pruning.planning.choose import choose
from pruning.planning.families import family_of
from pruning.planning.plan import Plan, resolve
from pruning.planning.settle import settle
from pruning.planning.shape import ModelShape
from pruning.planning.teacher import check_teacher
from pruning.planning.vocabulary import settle_vocabulary
from pruning.spec import Columns, PruneSpec


@dataclass(frozen=True)
class Proposal:
    """A request that can be done. `data` and `plan` are None while the dataset is still to be fetched."""

    model: FoundModel
    teacher: FoundModel | None
    dataset: FoundDataset
    data: DataSummary | None
    spec: PruneSpec
    plan: Plan | None

    @property
    def plan_json(self) -> dict[str, Any] | None:
        """The plan as replies show it."""
        return None if self.plan is None else self.plan.model_dump(mode="json", exclude={"spec"})


def propose(services: Services, caller: Caller, request: JobRequest) -> Proposal:
    """Find the inputs and plan.

    Raises what `find_model`, `find_dataset`, `resolve` and `check_tokenizers` raise.
    """
    owner_id = caller.owner_id
    model = find_model(services, owner_id, request.model, "/model")
    asked = request.teacher
    teacher = None if asked is None else find_model(services, owner_id, asked, "/teacher")
    dataset = find_dataset(services, owner_id, request.dataset)
    spec, plan, summary = request.spec(), None, None
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
    return Proposal(model, teacher, dataset, summary, spec, plan)


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
    family = family_of(model.config)
    if spec.cuts_vocabulary:
        settle_vocabulary(spec, family, trained=True)
    elif spec.prunes and spec.method != "auto":
        settle(spec, choose(spec, trained=True, family=family), family, shape, trained=True)
    if teacher is not None:
        check_teacher(spec, model.config, teacher.config)
