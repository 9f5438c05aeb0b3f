"""The receiver of docs/webhooks.md does what the page says."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from core.settings import Settings
from core.webhooks.guard import Guard
from core.webhooks.messages import EVENT_TYPES, PING, message
from core.webhooks.outbox import Claim
from core.webhooks.sender import Sender
from core.webhooks.signing import make_secret

PAGE = Path(__file__).parents[3] / "docs" / "webhooks.md"
SECRET = make_secret()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def documented(tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address and the process of the page's receiver."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    found = re.search(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    (tmp_path / "receiver.py").write_text(found[1])
    environment = os.environ | {"WEBHOOK_SECRET": SECRET, "PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "receiver.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while not listens(port):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}/", process
    process.kill()
    process.communicate()


def test_it_takes_each_message_once_and_no_forged_or_old_one(
    documented: tuple[str, subprocess.Popen[str]],
) -> None:
    url, process = documented
    sender, at = Sender(Guard(allow_http=True, networks=[ip_network("127.0.0.0/8")])), datetime.now(UTC)

    def send(delivery_id: str, secret: str = SECRET, at: datetime = at) -> int | None:
        return sender.send(Claim(delivery_id, "whk_1", 1, url, [secret], message(PING, at, {}), at)).status

    assert [send("dlv_1"), send("dlv_1"), send("dlv_2")] == [204, 204, 204]
    assert send("dlv_3", make_secret()) == 401
    assert send("dlv_4", at=at - timedelta(minutes=6)) == 401
    process.terminate()
    assert process.communicate(timeout=30)[0] == "webhook.ping {}\n" * 2


def test_the_page_names_every_type_and_setting() -> None:
    text = PAGE.read_text("utf-8")
    assert all(f"`{name}`" in text for name in (*EVENT_TYPES, PING))
    settings = {f"PRUNERY_{name.upper()}" for name in Settings.model_fields if name.startswith("webhook_")}
    assert settings == {name for name in settings if name in text}
