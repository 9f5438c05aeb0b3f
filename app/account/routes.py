"""Who the caller is, and how far the limits are used."""

from dataclasses import asdict

from fastapi import APIRouter
from pydantic import BaseModel, Field

from app.access import any_key
from app.deps import Asker, Door
from app.http.problem import problems
from app.keys.schemas import KeyView
from core.accounts import repository
from core.accounts.quotas import usage

router = APIRouter(prefix="/v1/account", tags=["account"], dependencies=[any_key])


class QuotaView(BaseModel):
    """One limit."""

    used: int
    limit: int | None = Field(description="Null: none.")


class QuotasView(BaseModel):
    """The owner's limits. Beyond `running_jobs` jobs wait, beyond the others requests are refused with 429."""

    queued_jobs: QuotaView
    running_jobs: QuotaView
    stored_bytes: QuotaView = Field(description="Models, datasets and results together.")
    device_seconds: QuotaView = Field(description="Seconds times devices since midnight UTC.")


class AccountView(BaseModel):
    """An owner, the key that asks, and the owner's limits."""

    owner_id: str
    owner: str = Field(description="The owner's name.")
    key: KeyView
    quotas: QuotasView


@router.get("", operation_id="get_account", summary="Who am I?", responses=problems(401, 500, 503))
def get_account(services: Door, caller: Asker) -> AccountView:
    """The owner of the key, what the key may do, and how far the limits are used. Any key may ask."""
    with services.database.read() as session:
        owner = repository.get_owner(session, caller.owner_id)
        key = KeyView.of(repository.get_key(session, caller.owner_id, caller.key_id))
        used, limits = asdict(usage(session, owner.id)), asdict(services.quotas.of(owner))
    quotas = {name: QuotaView(used=used[name], limit=limit) for name, limit in limits.items()}
    return AccountView(owner_id=owner.id, owner=owner.name, key=key, quotas=QuotasView.model_validate(quotas))
