"""Who changed what of the caller's owner."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from app.access import needs
from app.deps import Asker, Door
from app.http.pagination import Cursor, Limit, Listing, listing
from app.http.problem import problems
from core.accounts.scopes import Scope
from core.audit.log import list_records

router = APIRouter(prefix="/v1/audit", tags=["account"], dependencies=[needs(Scope.ADMIN)])


class AuditView(BaseModel):
    """One change, or one request that was refused for a missing scope."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    at: datetime
    actor: str = Field(description="The id of the key, or `operator` for the command line of the service.")
    action: str = Field(description="Such as `job.cancel`; for a refusal `needs.` and the scope.")
    object: str = Field(description="Id of what was changed; for a refusal method and path.")
    outcome: Literal["done", "denied"]
    request_id: str | None = Field(description="X-Request-ID of the request.")


@router.get(
    "", operation_id="list_audit", summary="Read the audit log", responses=problems(401, 422, 500, 503)
)
def list_audit(
    services: Door,
    caller: Asker,
    cursor: Cursor,
    action: Annotated[
        str | None, Query(pattern=r"^[a-z_:.]{1,64}$", description="Only this action, such as `key.create`.")
    ] = None,
    limit: Limit = 20,
) -> Listing[AuditView]:
    """Every change by a key or by the operator, newest first; kept for PRUNERY_AUDIT_DAYS."""
    with services.database.read() as session:
        page = list_records(session, caller.owner_id, action=action, cursor=cursor, limit=limit)
    return listing(page, AuditView.model_validate)
