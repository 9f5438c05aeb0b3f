"""The command that shows who changed what: from the database itself, so where the service runs."""

from typing import Annotated

import typer
from rich.table import Table

from cli.console import moment, print_table
from cli.ledger import ledger, owner_named
from core.audit.log import list_records
from core.settings import settings_from_env


def audit(
    owner: Annotated[str, typer.Option(help="Whose objects.")] = "default",
    action: Annotated[str | None, typer.Option(help="Only this action, such as key.create.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many, newest first.")] = 50,
) -> None:
    """Show who changed what of an owner, newest first."""
    table = Table("at", "actor", "action", "object", "outcome", "request")
    with ledger(settings_from_env()) as database, database.read() as session:
        owner_id = owner_named(session, owner).id
        for record in list_records(session, owner_id, action=action, limit=limit).data:
            who = (record.actor, record.action, record.object, record.outcome, record.request_id or "")
            table.add_row(moment(record.at), *who)
    print_table(table)
