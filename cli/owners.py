"""The commands that show owners and set their limits: on the database itself, so where the service runs."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from cli.console import out, print_table
from cli.ledger import ledger, owner_named
from core.accounts.quotas import Quotas, set_limits, usage
from core.accounts.repository import list_owners, operator_for
from core.audit import log as audit
from core.settings import settings_from_env

application = typer.Typer(help="Show owners and set their limits.", no_args_is_help=True)

_DEFAULT = -1
Limit = Annotated[int | None, typer.Option(min=_DEFAULT, help="Most; -1: what the settings say.")]


@application.command("list")
def list_all() -> None:
    """List the owners, with what they use of their limits."""
    settings = settings_from_env()
    defaults = Quotas.from_settings(settings)
    table = Table("owner", *(name.replace("_", " ") for name in asdict(defaults)))
    with ledger(settings) as database, database.read() as session:
        for owner in list_owners(session):
            limits = asdict(defaults.of(owner))
            used = asdict(usage(session, owner.id))
            table.add_row(owner.name, *(_figures(used[name], limit) for name, limit in limits.items()))
    print_table(table)


@application.command()
def limit(
    owner: Annotated[str, typer.Argument(help="The owner's name.")],
    queued_jobs: Limit = None,
    running_jobs: Limit = None,
    stored_bytes: Limit = None,
    device_seconds: Limit = None,
) -> None:
    """Give an owner limits of its own. What is not named stays as it is; 0 allows nothing."""
    given = Quotas(queued_jobs, running_jobs, stored_bytes, device_seconds)
    limits = {
        name: None if most == _DEFAULT else most for name, most in asdict(given).items() if most is not None
    }
    if not limits:
        raise typer.BadParameter("name at least one limit, such as --running-jobs 2")
    with ledger(settings_from_env()) as database, database.write() as session:
        record = owner_named(session, owner)
        set_limits(record, limits)
        audit.record(session, operator_for(record.id), "owner.limit", record.id)
    out.print(f"{owner} has new limits", markup=False, highlight=False)


def _figures(used: int, limit: int | None) -> str:
    return f"{used:,}" if limit is None else f"{used:,} of {limit:,}"
