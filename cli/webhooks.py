"""The commands about webhooks: add, list, switch, rotate, ping, remove; what became of their messages."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.connection import connect
from cli.console import out, print_table, said
from client import Webhook

application = typer.Typer(help="Have an address told of what happens to jobs.", no_args_is_help=True)
WebhookId = Annotated[str, typer.Argument(help="The webhook's id, whk_...")]


@application.command()
def create(
    url: Annotated[str, typer.Argument(help="A public https:// address.")],
    events: Annotated[
        list[str] | None,
        typer.Option("--event", help="What it is told, such as job.failed; default: every state."),
    ] = None,
    description: Annotated[str, typer.Option(help="To tell webhooks apart.")] = "",
) -> None:
    """Add a webhook and print its secret, which cannot be shown again."""
    with connect() as client:
        hook = client.webhooks.create(url, events=events or None, description=description)
    said.print(f"{hook.id} is told of {', '.join(hook.events)}", markup=False, highlight=False)
    _print(hook.secret)


@application.command("list")
def list_all() -> None:
    """List the webhooks."""
    table = Table("id", "url", "events", "state", "description")
    with connect() as client:
        for hook in client.webhooks.all():
            table.add_row(
                hook.id, escape(hook.url), ", ".join(hook.events), _state(hook), escape(hook.description)
            )
    print_table(table)


@application.command()
def enable(webhook_id: WebhookId) -> None:
    """Switch a webhook on again."""
    with connect() as client:
        _print(f"{client.webhooks.update(webhook_id, enabled=True).id} is enabled")


@application.command()
def disable(webhook_id: WebhookId) -> None:
    """Switch a webhook off; what it was still to be told has failed."""
    with connect() as client:
        _print(f"{client.webhooks.update(webhook_id, enabled=False).id} is disabled")


@application.command()
def rotate(
    webhook_id: WebhookId,
    overlap: Annotated[
        float, typer.Option(min=0, max=168, help="Hours for which the old secret signs too; 0 if it leaked.")
    ] = 24,
) -> None:
    """Change the secret and print the new one, which cannot be shown again."""
    with connect() as client:
        _print(client.webhooks.rotate_secret(webhook_id, overlap_hours=overlap).secret)


@application.command()
def ping(webhook_id: WebhookId) -> None:
    """Send a test message and print the id of its delivery."""
    with connect() as client:
        _print(client.webhooks.ping(webhook_id).id)


@application.command()
def delete(webhook_id: WebhookId) -> None:
    """Remove a webhook."""
    with connect() as client:
        client.webhooks.delete(webhook_id)
    _print(f"{webhook_id} is deleted")


@application.command()
def deliveries(
    webhook_id: WebhookId,
    status: Annotated[str | None, typer.Option(help="pending, delivered or failed.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
) -> None:
    """List the messages to a webhook, and what became of them."""
    table = Table("id", "type", "job", "status", "attempts", "created", "last failure")
    with connect() as client:
        for _, delivery in zip(
            range(limit), client.webhooks.deliveries(webhook_id, status=status), strict=False
        ):
            table.add_row(
                delivery.id,
                delivery.type,
                delivery.job_id or "",
                delivery.status,
                str(delivery.attempts),
                f"{delivery.created_at:%Y-%m-%d %H:%M:%S}",
                escape(delivery.error or ""),
            )
    print_table(table)


@application.command()
def redeliver(
    webhook_id: WebhookId, delivery_id: Annotated[str, typer.Argument(help="The delivery's id, dlv_...")]
) -> None:
    """Send a message again."""
    with connect() as client:
        _print(f"{client.webhooks.redeliver(webhook_id, delivery_id).id} is sent again")


def _state(hook: Webhook) -> str:
    if not hook.enabled:
        return f"disabled: {hook.disabled_reason}"
    return (
        "enabled" if hook.failing_since is None else f"failing since {hook.failing_since:%Y-%m-%d %H:%M:%S}"
    )


def _print(line: str) -> None:
    out.print(line, markup=False, highlight=False, soft_wrap=True)
