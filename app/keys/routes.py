"""API keys of the caller's owner."""

from fastapi import APIRouter, Request, Response

from app.access import needs
from app.deps import Asker, Door, JsonBody, KeyId
from app.http.links import base_url
from app.http.pagination import Cursor, Limit, Listing, listing
from app.http.problem import problems
from app.keys.schemas import CreatedKey, KeyView, NewKey
from core.accounts import repository
from core.accounts.scopes import Scope
from core.audit import log as audit

router = APIRouter(prefix="/v1/keys", tags=["account"], dependencies=[needs(Scope.ADMIN, Scope.ADMIN)])


@router.post(
    "",
    status_code=201,
    operation_id="create_key",
    summary="Make an API key",
    dependencies=[JsonBody],
    responses=problems(400, 401, 413, 415, 422, 500, 503),
)
def create_key(
    request: Request, response: Response, services: Door, caller: Asker, body: NewKey
) -> CreatedKey:
    """The reply is the only place where the key is ever shown."""
    with services.database.write() as session:
        key, plaintext = repository.create_key(
            session,
            caller.owner_id,
            body.name,
            scopes=frozenset(body.scopes),
            expires_at=body.expires_at,
        )
        audit.record(session, caller, "key.create", key.id)
    response.headers["Location"] = f"{base_url(request, services.settings)}/v1/keys/{key.id}"
    response.headers["Cache-Control"] = "no-store"
    return CreatedKey.made(key, plaintext)


@router.get("", operation_id="list_keys", summary="List API keys", responses=problems(401, 422, 500, 503))
def list_keys(services: Door, caller: Asker, cursor: Cursor, limit: Limit = 20) -> Listing[KeyView]:
    """The owner's keys, newest first, revoked and expired ones included."""
    with services.database.read() as session:
        page = repository.page_of_keys(session, caller.owner_id, cursor=cursor, limit=limit)
    return listing(page, KeyView.of)


@router.get(
    "/{key_id}", operation_id="get_key", summary="Get an API key", responses=problems(401, 404, 422, 500, 503)
)
def get_key(services: Door, caller: Asker, key_id: KeyId) -> KeyView:
    """One key: what it may do, until when, and when it was last used."""
    with services.database.read() as session:
        return KeyView.of(repository.get_key(session, caller.owner_id, key_id))


@router.delete(
    "/{key_id}",
    status_code=204,
    operation_id="revoke_key",
    summary="Revoke an API key",
    responses=problems(401, 404, 422, 500, 503),
)
def revoke_key(services: Door, caller: Asker, key_id: KeyId) -> None:
    """Make the key useless, at once and for ever; also the one that asks. It stays in the list."""
    with services.database.write() as session:
        repository.revoke_key(session, caller.owner_id, key_id)
        audit.record(session, caller, "key.revoke", key_id)
