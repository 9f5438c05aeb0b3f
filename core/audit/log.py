"""Who did what: written in the transaction of the change, so that neither exists without the other."""

from datetime import timedelta
from typing import Literal

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core.accounts.repository import Caller
from core.audit.tables import AuditRecord
from core.clock import now
from core.db.pages import Page, paginate
from core.db.writes import rows_changed
from core.ids import new_id

Outcome = Literal["done", "denied"]


def record(session: Session, caller: Caller, action: str, object_id: str, outcome: Outcome = "done") -> None:
    """Note that `caller` did `action`, such as `job.cancel`, to an object; call it beside the change itself."""
    session.add(
        AuditRecord(
            id=new_id("aud"),
            owner_id=caller.owner_id,
            actor=caller.key_id,
            action=action,
            object=object_id,
            outcome=outcome,
            request_id=caller.request_id,
            at=now(session),
        )
    )


def list_records(
    session: Session,
    owner_id: str,
    *,
    action: str | None = None,
    cursor: str | None = None,
    limit: int = 20,
) -> Page[AuditRecord]:
    """What was done on an owner's objects, newest first; `action` picks one kind."""
    query = select(AuditRecord).where(AuditRecord.owner_id == owner_id)
    if action is not None:
        query = query.where(AuditRecord.action == action)
    return paginate(session, query, AuditRecord.id, cursor=cursor, limit=limit)


def forget_old(session: Session, *, days: float) -> int:
    """Delete records that are older; returns how many."""
    before = now(session) - timedelta(days=days)
    return rows_changed(session, delete(AuditRecord).where(AuditRecord.at < before))
