"""The commands that make, list and revoke API keys: on the database itself, so where the service runs."""

import os
from datetime import timedelta
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy.orm import Session

from cli.connection import KEY_FILE
from cli.console import moment, out, print_table, said
from cli.ledger import ledger, owner_named
from core.accounts.repository import (
    authenticate,
    create_key,
    create_owner,
    find_owner,
    list_keys,
    operator_for,
    revoke_key,
)
from core.accounts.scopes import EVERYTHING, Scope, Scopes
from core.accounts.tables import ApiKey, Owner
from core.audit import log as audit
from core.clock import now
from core.errors import Unauthorized
from core.settings import Settings, settings_from_env

application = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)
OwnerName = Annotated[
    str, typer.Option("--owner", help="Whose key; models, datasets and jobs belong to an owner.")
]


@application.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for, to tell it from others.")],
    owner: OwnerName = "default",
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it may do; give it once for each. Default: admin.")
    ] = None,
    expires_days: Annotated[
        int | None, typer.Option(min=1, help="Days until it ends. Default: never.")
    ] = None,
) -> None:
    """Make a key and print it; it cannot be shown again. An owner not seen before is made."""
    with ledger(settings_from_env()) as database, database.write() as session:
        record = _owner(session, owner)
        key, plaintext = _make(session, record, name, frozenset(scope or EVERYTHING), expires_days)
    said.print(f"{key.id} for {owner}; keep the key, it is not stored here", markup=False, highlight=False)
    out.print(plaintext, markup=False, highlight=False, soft_wrap=True)


@application.command("list")
def list_all(owner: OwnerName = "default") -> None:
    """List an owner's keys."""
    table = Table("id", "name", "begins with", "scopes", "created", "expires", "last used", "revoked")
    with ledger(settings_from_env()) as database, database.read() as session:
        for key in list_keys(session, owner_named(session, owner).id):
            moments = (key.created_at, key.expires_at, key.last_used_at, key.revoked_at)
            table.add_row(key.id, key.name, key.prefix, key.scopes, *map(moment, moments))
    print_table(table)


@application.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, key_...")], owner: OwnerName = "default"
) -> None:
    """Make a key useless, at once and for ever."""
    with ledger(settings_from_env()) as database, database.write() as session:
        owner_id = owner_named(session, owner).id
        key = revoke_key(session, owner_id, key_id)
        audit.record(session, operator_for(owner_id), "key.revoke", key_id)
    out.print(f"{key.id} is revoked", markup=False, highlight=False)


def first_key(settings: Settings) -> bool:
    """See to it that the data folder holds a valid key that only its owner can read; True for a new one."""
    path = settings.data_dir / KEY_FILE
    with ledger(settings) as database:
        if path.exists():
            try:
                with database.read() as session:
                    authenticate(session, path.read_text("ascii").strip())
                return False
            except Unauthorized:
                path.unlink()
        with database.write() as session:
            _, plaintext = _make(session, _owner(session, "default"), "first start")
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(f"{plaintext}\n")
    return True


def _owner(session: Session, name: str) -> Owner:
    """The owner of that name, made when there is none."""
    known = find_owner(session, name)
    if known is not None:
        return known
    owner = create_owner(session, name)
    audit.record(session, operator_for(owner.id), "owner.create", owner.id)
    return owner


def _make(
    session: Session, owner: Owner, name: str, scopes: Scopes = EVERYTHING, expires_days: int | None = None
) -> tuple[ApiKey, str]:
    end = None if expires_days is None else now(session) + timedelta(days=expires_days)
    key, plaintext = create_key(session, owner.id, name, scopes=scopes, expires_at=end)
    audit.record(session, operator_for(owner.id), "key.create", key.id)
    return key, plaintext
