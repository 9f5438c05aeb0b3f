"""Whether the service lives and can work, and which version it is."""

import logging
from importlib.metadata import version
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from app.access import no_key
from app.deps import Door
from app.http.problem import Problem, problems
from core.errors import LedgerError

router = APIRouter(tags=["health"], dependencies=[no_key])
_log = logging.getLogger(__name__)


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What requests need is there. A broker that is away keeps nobody from being served: jobs wait for it."""

    status: Literal["ready"] = "ready"
    database: Literal["ok"] = "ok"
    store: Literal["ok"] = "ok"
    broker: Literal["ok", "unreachable", "unknown"]


class Version(BaseModel):
    """What runs here."""

    name: Literal["prunery"] = "prunery"
    version: str
    api: Literal["v1"] = "v1"


@router.get("/healthz", operation_id="health", summary="Does it live?", responses=problems(500))
def health() -> Health:
    """Answers as long as the process does; looks at nothing else."""
    return Health()


@router.get("/readyz", operation_id="readiness", summary="Can it work?", responses=problems(500, 503))
def readiness(services: Door) -> Readiness:
    """Asks the database and writes to the store; 503 when either fails."""
    try:
        services.database.check()
        services.store.check()
    except (LedgerError, OSError) as error:
        _log.warning("Not ready: %s", error)
        code = error.code if isinstance(error, LedgerError) else "store_unavailable"
        detail = "The database or the store cannot be used."
        raise Problem(503, code, detail, headers={"Retry-After": "5"}) from error
    return Readiness(broker=services.doorbell.state)


@router.get("/v1/version", operation_id="version", summary="Which version is it?", responses=problems(500))
def show_version() -> Version:
    """The version of the service and of its interface."""
    return Version(version=version("prunery"))
