"""The commands that make, list and revoke API keys: on the database itself, so where the service runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.table import Table
from sqlalchemy.orm import Session

from cli.connection import KEY_FILE
from cli.console import out, print_table, said
from core.accounts.repository import (
    authenticate,
    create_key,
    create_owner,
    find_owner,
    list_keys,
    revoke_key,
)
from core.db import Database
from core.errors import NotFound, Unauthorized
from core.settings import Settings, settings_from_env

application = typer.Typer(help="Make, list and revoke API keys.", no_args_is_help=True)
OwnerName = Annotated[
    str, typer.Option("--owner", help="Whose key; models, datasets and jobs belong to an owner.")
]


@application.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for, to tell it from others.")],
    owner: OwnerName = "default",
) -> None:
    """Make a key and print it; it cannot be shown again. An owner not seen before is made."""
    with _database(settings_from_env()) as database, database.write() as session:
        record = find_owner(session, owner) or create_owner(session, owner)
        key, plaintext = create_key(session, record.id, name)
    said.print(f"{key.id} for {owner}; keep the key, it is not stored here", markup=False, highlight=False)
    out.print(plaintext, markup=False, highlight=False, soft_wrap=True)


@application.command("list")
def list_all(owner: OwnerName = "default") -> None:
    """List an owner's keys."""
    table = Table("id", "name", "begins with", "created", "revoked")
    with _database(settings_from_env()) as database, database.read() as session:
        for key in list_keys(session, _owner_id(session, owner)):
            revoked = f"{key.revoked_at:%Y-%m-%d %H:%M:%S}" if key.revoked_at else ""
            table.add_row(key.id, key.name, key.prefix, f"{key.created_at:%Y-%m-%d %H:%M:%S}", revoked)
    print_table(table)


@application.command()
def revoke(
    key_id: Annotated[str, typer.Argument(help="The key's id, key_...")], owner: OwnerName = "default"
) -> None:
    """Make a key useless, at once and for ever."""
    with _database(settings_from_env()) as database, database.write() as session:
        key = revoke_key(session, _owner_id(session, owner), key_id)
    out.print(f"{key.id} is revoked", markup=False, highlight=False)


def first_key(settings: Settings) -> bool:
    """See to it that the data folder holds a valid key that only its owner can read; True for a new one."""
    path = settings.data_dir / KEY_FILE
    with _database(settings) as database:
        if path.exists():
            try:
                with database.read() as session:
                    authenticate(session, path.read_text("ascii").strip())
                return False
            except Unauthorized:
                path.unlink()
        with database.write() as session:
            owner = find_owner(session, "default") or create_owner(session, "default")
            _, plaintext = create_key(session, owner.id, "first start")
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(f"{plaintext}\n")
    return True


@contextmanager
def _database(settings: Settings) -> Iterator[Database]:
    database = Database(settings.database_url)
    try:
        yield database
    finally:
        database.dispose()


def _owner_id(session: Session, name: str) -> str:
    owner = find_owner(session, name)
    if owner is None:
        raise NotFound(f"--owner: there is no owner {name!r}; `prunery keys create` makes one")
    return owner.id
