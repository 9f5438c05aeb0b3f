"""Whether a request's teacher fits its model, as far as it can be known before any file of the hub is fetched."""

from app.jobs.references import FoundModel
from app.services import Services
from core.inputs import Input, find_model
from pruning.planning.teacher import VOCABULARIES, check_vocabulary, vocabulary


def check_tokenizers(services: Services, owner_id: str, model: FoundModel, teacher: FoundModel) -> None:
    """Raise InvalidSpec when the stored tokenizers of two models have different vocabularies.

    The worker compares those that are still on the hub, or that have no file of the same kind.
    """
    own, other = (_files(services, owner_id, found) for found in (model, teacher))
    for name in VOCABULARIES:
        if name in own and name in other:
            if own[name] != other[name]:
                found = [_read(services, name, files[name]) for files in (own, other)]
                if found[0] is not None and found[1] is not None:
                    check_vocabulary(found[0], found[1])
            return


def _files(services: Services, owner_id: str, found: FoundModel) -> dict[str, str]:
    """The hash of each stored file; none while the model is on the hub."""
    if found.hub is not None:
        return {}
    with services.database.read() as session:
        files: Input = find_model(session, owner_id, found.model_id, found.job_id)
    if files.hub is not None:
        return {}
    return {file.name: file.sha256 for file in files.files if file.sha256 is not None}


def _read(services: Services, name: str, sha256: str) -> dict[str, int] | None:
    with services.store.open(sha256) as file:
        return vocabulary(name, file.read())
