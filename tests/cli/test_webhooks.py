"""The commands about webhooks, and with them the client's methods, against the real service."""

from collections.abc import Iterator

import pytest

from client import PruneryClient
from core.clock import now
from core.webhooks import outbox, tables
from core.webhooks.messages import message
from tests.cli.conftest import Prunery
from tests.support.api import Api

URL = "https://93.184.216.34/cli"
Hook = tuple[str, str]
"""A webhook's id and secret."""


@pytest.fixture
def hook(online: Prunery) -> Hook:
    code, secret, said = online("webhooks", "create", URL, "--event", "job.failed", "--description", "[mine]")
    assert code == 0, said
    assert said.endswith(" is told of job.failed\n")
    return said.split()[0], secret.strip()


@pytest.fixture(autouse=True)
def cleared(api: Api) -> Iterator[None]:
    """No webhook is left to the next test."""
    yield
    with PruneryClient(api.url, api.key) as client:
        for hook in client.webhooks.all():
            client.webhooks.delete(hook.id)


def test_a_webhook_from_its_first_message_to_its_end(online: Prunery, api: Api, hook: Hook) -> None:
    hook_id, secret = hook
    assert secret.startswith("whsec_")
    listed = online("webhooks", "list")[1]
    assert all(part in listed for part in (hook_id, URL, "job.failed", "enabled", "[mine]"))
    assert secret not in listed
    # Switched off before anything is sent: nothing of a test leaves this machine.
    assert online("webhooks", "disable", hook_id) == (0, f"{hook_id} is disabled\n", "")
    assert "disabled: owner" in online("webhooks", "list")[1]
    code, _, err = online("webhooks", "ping", hook_id)
    assert (code, "enable it first" in err) == (2, True)
    with api.database.write() as session:
        row = session.get_one(tables.Webhook, hook_id)
        told = outbox.put(session, row, message("job.failed", now(session), {}), now(session))
        outbox.disable(session, row, "owner", now(session))
    listed = online("webhooks", "deliveries", hook_id, "--status", "failed")[1]
    assert all(part in listed for part in (told.id, "job.failed", "was disabled before this was sent"))
    assert told.id not in online("webhooks", "deliveries", hook_id, "--status", "delivered")[1]
    code, rotated, _ = online("webhooks", "rotate", hook_id, "--overlap", "0")
    assert (code, rotated.strip() != secret) == (0, True)
    code, _, err = online("webhooks", "redeliver", hook_id, told.id)
    assert (code, "enable it first" in err) == (2, True)
    assert online("webhooks", "enable", hook_id)[0] == 0
    assert online("webhooks", "delete", hook_id) == (0, f"{hook_id} is deleted\n", "")
    assert hook_id not in online("webhooks", "list")[1]


def test_a_refusal_is_one_line(online: Prunery) -> None:
    code, out, err = online("webhooks", "create", "http://127.0.0.1/")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert "https://" in err


def test_the_client_shows_deliveries_and_hides_the_secret(api: Api) -> None:
    with PruneryClient(api.url, api.key) as client:
        made = client.webhooks.create(URL)
        assert made.secret not in repr(made)
        client.webhooks.update(made.id, url=URL + "2", description="changed")
        assert client.webhooks.get(made.id).description == "changed"
        assert list(client.webhooks.deliveries(made.id)) == []
