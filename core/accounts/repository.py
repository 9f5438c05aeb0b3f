"""Owners and their keys in the database."""

import secrets
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.accounts.keys import hash_key, is_well_formed, make_key, public_part
from core.accounts.scopes import EVERYTHING, Scopes, from_text, to_text
from core.accounts.tables import ApiKey, Owner
from core.clock import now
from core.db.pages import Page, paginate
from core.errors import Conflict, InvalidRequest, NotFound, Unauthorized
from core.ids import new_id

OPERATOR = "operator"
"""The actor of what is done on the command line, without a key."""


@dataclass(frozen=True)
class Caller:
    """Who acts, with which key, what that key may do, and in which request."""

    owner_id: str
    key_id: str
    scopes: Scopes = EVERYTHING
    request_id: str | None = None


def operator_for(owner_id: str) -> Caller:
    """Whoever runs a command on the database itself, acting for an owner."""
    return Caller(owner_id, OPERATOR)


def create_owner(session: Session, name: str) -> Owner:
    """A new owner; raises Conflict when the name is taken."""
    if find_owner(session, name) is not None:
        raise Conflict(f"There is an owner {name!r} already.")
    owner = Owner(id=new_id("own"), name=name, created_at=now(session))
    session.add(owner)
    session.flush()
    return owner


def get_owner(session: Session, owner_id: str) -> Owner:
    """An owner by id; raises NotFound."""
    owner = session.get(Owner, owner_id)
    if owner is None:
        raise NotFound(f"There is no owner {owner_id}.")
    return owner


def find_owner(session: Session, name: str) -> Owner | None:
    """The owner of that name, if there is one."""
    return session.scalars(select(Owner).where(Owner.name == name)).one_or_none()


def list_owners(session: Session) -> list[Owner]:
    """Every owner, oldest first."""
    return list(session.scalars(select(Owner).order_by(Owner.id)))


def create_key(
    session: Session,
    owner_id: str,
    name: str,
    *,
    scopes: Scopes = EVERYTHING,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its plaintext, which cannot be had again.

    Raises NotFound when there is no such owner, InvalidRequest without scopes or with a date that has passed.
    """
    get_owner(session, owner_id)
    at = now(session)
    if not scopes:
        raise InvalidRequest("A key needs at least one scope.", param="/scopes")
    if expires_at is not None and expires_at <= at:
        raise InvalidRequest("A key must expire in the future.", param="/expires_at")
    plaintext = make_key()
    record = ApiKey(
        id=new_id("key"),
        owner_id=owner_id,
        name=name,
        prefix=public_part(plaintext),
        sha256=hash_key(plaintext),
        scopes=to_text(scopes),
        created_at=at,
        expires_at=expires_at,
    )
    session.add(record)
    session.flush()
    return record, plaintext


def authenticate(session: Session, plaintext: str) -> Caller:
    """Who a key belongs to; raises Unauthorized, with one text, for one that is unknown, revoked or expired.

    A text that is no key, by its form and checksum, is refused without asking the database.
    """
    if is_well_formed(plaintext):
        digest = hash_key(plaintext)
        record = session.scalars(select(ApiKey).where(ApiKey.sha256 == digest)).one_or_none()
        if record is not None and secrets.compare_digest(record.sha256, digest) and is_valid(record, session):
            return Caller(record.owner_id, record.id, from_text(record.scopes))
    raise Unauthorized("The API key is not valid.")


def is_valid(record: ApiKey, session: Session) -> bool:
    """Whether a key is neither revoked nor expired; the database's clock is asked only of keys that expire."""
    return record.revoked_at is None and (record.expires_at is None or now(session) < record.expires_at)


def list_keys(session: Session, owner_id: str) -> list[ApiKey]:
    """The owner's keys, oldest first, revoked ones included."""
    return list(session.scalars(select(ApiKey).where(ApiKey.owner_id == owner_id).order_by(ApiKey.id)))


def page_of_keys(session: Session, owner_id: str, *, cursor: str | None, limit: int) -> Page[ApiKey]:
    """The owner's keys, newest first, a page at a time."""
    query = select(ApiKey).where(ApiKey.owner_id == owner_id)
    return paginate(session, query, ApiKey.id, cursor=cursor, limit=limit)


def get_key(session: Session, owner_id: str, key_id: str) -> ApiKey:
    """The owner's key; raises NotFound."""
    record = session.scalars(
        select(ApiKey).where(ApiKey.id == key_id, ApiKey.owner_id == owner_id)
    ).one_or_none()
    if record is None:
        raise NotFound(f"There is no key {key_id}.")
    return record


def revoke_key(session: Session, owner_id: str, key_id: str) -> ApiKey:
    """Make a key useless, at once and for ever; raises NotFound."""
    record = get_key(session, owner_id, key_id)
    record.revoked_at = record.revoked_at or now(session)
    return record
