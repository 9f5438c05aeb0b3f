"""Owners and their keys in the database."""

import secrets
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.accounts.keys import hash_key, is_well_formed, make_key, public_part
from core.accounts.tables import ApiKey, Owner
from core.clock import now
from core.errors import Conflict, NotFound, Unauthorized
from core.ids import new_id


@dataclass(frozen=True)
class Caller:
    """Who makes a request, and with which key."""

    owner_id: str
    key_id: str


def create_owner(session: Session, name: str) -> Owner:
    """A new owner; raises Conflict when the name is taken."""
    if find_owner(session, name) is not None:
        raise Conflict(f"There is an owner {name!r} already.")
    owner = Owner(id=new_id("own"), name=name, created_at=now(session))
    session.add(owner)
    session.flush()
    return owner


def find_owner(session: Session, name: str) -> Owner | None:
    """The owner of that name, if there is one."""
    return session.scalars(select(Owner).where(Owner.name == name)).one_or_none()


def create_key(session: Session, owner_id: str, name: str) -> tuple[ApiKey, str]:
    """A new key and its plaintext, which cannot be had again; raises NotFound when there is no such owner."""
    if session.get(Owner, owner_id) is None:
        raise NotFound(f"There is no owner {owner_id}.")
    plaintext = make_key()
    record = ApiKey(
        id=new_id("key"),
        owner_id=owner_id,
        name=name,
        prefix=public_part(plaintext),
        sha256=hash_key(plaintext),
        created_at=now(session),
    )
    session.add(record)
    session.flush()
    return record, plaintext


def authenticate(session: Session, plaintext: str) -> Caller:
    """Who a key belongs to; raises Unauthorized for a key that is unknown or revoked."""
    if is_well_formed(plaintext):
        digest = hash_key(plaintext)
        record = session.scalars(select(ApiKey).where(ApiKey.sha256 == digest)).one_or_none()
        if record is not None and secrets.compare_digest(record.sha256, digest) and record.revoked_at is None:
            return Caller(record.owner_id, record.id)
    raise Unauthorized("The API key is not valid.")


def list_keys(session: Session, owner_id: str) -> list[ApiKey]:
    """The owner's keys, oldest first, revoked ones included."""
    return list(session.scalars(select(ApiKey).where(ApiKey.owner_id == owner_id).order_by(ApiKey.id)))


def revoke_key(session: Session, owner_id: str, key_id: str) -> ApiKey:
    """Make a key useless, at once and for ever; raises NotFound."""
    record = session.scalars(
        select(ApiKey).where(ApiKey.id == key_id, ApiKey.owner_id == owner_id)
    ).one_or_none()
    if record is None:
        raise NotFound(f"There is no key {key_id}.")
    record.revoked_at = record.revoked_at or now(session)
    return record
