"""Closing the upload of a model: its files are inspected, never run or loaded."""

from app.models.schemas import ModelView
from app.scratch import laid_out
from app.services import Services
from app.uploads.files import files_to_complete
from core.accounts.repository import Caller
from core.assets import repository
from core.assets.files import digest
from core.assets.inspect import model_complete
from core.assets.tables import Model
from core.audit import log as audit
from core.uploads import repository as uploads


def complete(services: Services, caller: Caller, model_id: str) -> ModelView:
    """Check the files and close the upload.

    Raises NotFound, Conflict `already_complete`, `upload_open` or `changed`, and InvalidModel that names
    file and remedy.
    """
    files = files_to_complete(services, Model, caller.owner_id, model_id)
    with laid_out(services, files) as folder:
        info = model_complete({file.name: folder / file.name for file in files})
    with services.database.write() as session:
        model = repository.complete_model(
            session,
            caller.owner_id,
            model_id,
            files=files,
            config=info.config,
            model_type=info.model_type,
            parameters=info.parameters,
            digest=digest(files),
        )
        uploads.close(session, Model, model_id)
        audit.record(session, caller, "model.complete", model_id)
        return ModelView.of(model, repository.files_of(session, model))
