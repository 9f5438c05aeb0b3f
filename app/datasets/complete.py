"""Closing the upload of a dataset: every row is read and checked, by the columns that the owner names."""

from collections.abc import Sequence

from app.datasets.schemas import DatasetView
from app.scratch import laid_out
from app.services import Services
from app.uploads.files import files_to_complete
from core.accounts.repository import Caller
from core.assets import repository
from core.assets.files import FileRecord, digest
from core.assets.tables import Dataset
from core.audit import log as audit
from core.uploads import repository as uploads
from pruning.data.limits import Limits
from pruning.data.rows import DataSummary, summarise
from pruning.spec import Columns


def complete(services: Services, caller: Caller, dataset_id: str, columns: Columns) -> DatasetView:
    """Check the files and close the upload.

    Raises NotFound, Conflict `already_complete`, `upload_open` or `changed`, and InvalidData naming file,
    line and remedy.
    """
    files = files_to_complete(services, Dataset, caller.owner_id, dataset_id)
    summary = summarise_files(services, files, columns)
    with services.database.write() as session:
        dataset = repository.complete_dataset(
            session,
            caller.owner_id,
            dataset_id,
            files=files,
            summary=summary.model_dump(mode="json"),
            digest=digest(files),
        )
        uploads.close(session, Dataset, dataset_id)
        audit.record(session, caller, "dataset.complete", dataset_id)
        return DatasetView.of(dataset, repository.files_of(session, dataset))


def summarise_files(services: Services, files: Sequence[FileRecord], columns: Columns) -> DataSummary:
    """What stored files hold, read by these columns; raises InvalidData."""
    with laid_out(services, files) as folder:
        return summarise(folder, columns, Limits(rows=services.settings.max_dataset_rows))
