"""References to the hub, resolved while the client waits; what the hub refuses is refused at its place."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.services import Services
from core.assets.files import HubDatasetInfo, HubModelInfo
from core.assets.hub import HubClient
from core.errors import InvalidRequest, NotFound, TooLarge
from pruning.errors import PruningError


def resolve_model(services: Services, hub_id: str, revision: str, pointer: str) -> HubModelInfo:
    """The commit, files and config.json of a model; `pointer` is the reference's place in the request.

    Raises InvalidRequest `hub_not_found`, `too_large` or `hub_disabled`, InvalidModel, or HubUnavailable.
    """
    with _at(pointer):
        return _hub(services).resolve_model(hub_id, revision)


def resolve_dataset(
    services: Services, hub_id: str, config: str | None, revision: str, pointer: str
) -> HubDatasetInfo:
    """The commit and files of a dataset; raises as `resolve_model` does, or InvalidData."""
    with _at(pointer):
        return _hub(services).resolve_dataset(hub_id, config, revision)


def _hub(services: Services) -> HubClient:
    if services.hub is None:
        message = "This service does not use the hub (PRUNERY_HUB_ENABLED); upload the files instead."
        raise InvalidRequest(message, code="hub_disabled")
    return services.hub


@contextmanager
def _at(pointer: str) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        place = f"{pointer}/revision" if error.param.endswith("/revision") else pointer
        raise InvalidRequest(error.message, param=place, code="hub_not_found") from error
    except TooLarge as error:
        raise InvalidRequest(error.message, param=pointer, code="too_large") from error
    except InvalidRequest as error:
        raise InvalidRequest(error.message, param=pointer, code=error.code) from error
    except PruningError as error:
        error.param = pointer
        raise
