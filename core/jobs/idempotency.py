"""Requests that may be repeated: the same key gives the same answer, and the effect once.

The row is written in the transaction of the effect, so that both exist or neither.
"""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from core.clock import now
from core.db.base import Json
from core.db.writes import rows_changed
from core.errors import IdempotencyInFlight, IdempotencyMismatch
from core.jobs.tables import IdempotencyKey

WAIT_SECONDS = 5
"""How long PostgreSQL waits for another request with the same key to commit."""


@dataclass(frozen=True)
class Request:
    """A request that may be repeated; `fingerprint` is the SHA-256 of its canonical body, in hexadecimal."""

    owner_id: str
    key: str
    method: str
    route: str
    fingerprint: str


@dataclass(frozen=True)
class Replay:
    """The answer that the first request of this key got."""

    status: int
    response: Json


def begin(session: Session, request: Request, *, hours: float) -> Replay | None:
    """Reserve the key, or find the answer of the first request that had it.

    Raises IdempotencyMismatch when that was another request, IdempotencyInFlight when it has no answer yet.
    None: carry the request out and call `complete` in the same transaction.
    """
    at = now(session)
    mine = (IdempotencyKey.owner_id == request.owner_id, IdempotencyKey.key == request.key)
    rows_changed(session, delete(IdempotencyKey).where(*mine, IdempotencyKey.expires_at <= at))
    row = {
        "owner_id": request.owner_id,
        "key": request.key,
        "method": request.method,
        "route": request.route,
        "fingerprint": request.fingerprint,
        "created_at": at,
        "expires_at": at + timedelta(hours=hours),
    }
    if _inserted(session, row):
        return None
    return _answer(session.scalars(select(IdempotencyKey).where(*mine)).one(), request)


def find(session: Session, request: Request) -> Replay | None:
    """The answer of an earlier request with this key, without reserving anything; raises as `begin` does."""
    query = select(IdempotencyKey).where(
        IdempotencyKey.owner_id == request.owner_id,
        IdempotencyKey.key == request.key,
        IdempotencyKey.expires_at > now(session),
    )
    known = session.scalars(query).one_or_none()
    return None if known is None else _answer(known, request)


def _answer(known: IdempotencyKey, request: Request) -> Replay:
    if (known.method, known.route, known.fingerprint) != (request.method, request.route, request.fingerprint):
        raise IdempotencyMismatch("This Idempotency-Key was used for a different request; use a new key.")
    if known.status is None or known.response is None:
        raise IdempotencyInFlight("A request with this Idempotency-Key is being answered; try again shortly.")
    return Replay(known.status, known.response)


def complete(
    session: Session, request: Request, *, status: int, response: Json, job_id: str | None = None
) -> None:
    """Store the answer, in the transaction that reserved the key."""
    reserved = update(IdempotencyKey).where(
        IdempotencyKey.owner_id == request.owner_id, IdempotencyKey.key == request.key
    )
    if rows_changed(session, reserved.values(status=status, response=response, job_id=job_id)) != 1:
        raise LookupError("The idempotency key was not reserved in this transaction.")


def _inserted(session: Session, row: Json) -> bool:
    """Insert unless the key is there; waits for another transaction that is inserting the same key."""
    if session.get_bind().dialect.name == "sqlite":
        return _is_new(session, sqlite.insert(IdempotencyKey).values(row).on_conflict_do_nothing())
    session.execute(text(f"SET LOCAL lock_timeout = '{WAIT_SECONDS}s'"))
    try:
        with session.begin_nested():
            new = _is_new(session, postgresql.insert(IdempotencyKey).values(row).on_conflict_do_nothing())
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) != "55P03":  # lock_not_available
            raise
        raise IdempotencyInFlight(
            "A request with this Idempotency-Key is being answered; try again shortly."
        ) from error
    session.execute(text("SET LOCAL lock_timeout = DEFAULT"))
    return new


def _is_new(session: Session, insert: sqlite.Insert | postgresql.Insert) -> bool:
    # RETURNING, because drivers do not count the rows of an insert alike.
    return session.scalars(insert.returning(IdempotencyKey.key)).one_or_none() is not None
