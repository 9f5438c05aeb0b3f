"""One attempt over real sockets: signed, to the address that was judged, and over when its time is."""

import ssl
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network
from pathlib import Path

import pytest
import trustme
from standardwebhooks import Webhook, WebhookVerificationError

from core.webhooks.guard import Guard
from core.webhooks.outbox import Claim
from core.webhooks.sender import ANSWER_BYTES, Sender
from core.webhooks.signing import make_secret
from tests.support.receiver import Receiver, serve

LOOPBACK = [ip_network("127.0.0.0/8")]
NAME = "hooks.example"


def claim(url: str, *secrets: str) -> Claim:
    payload = {"type": "webhook.ping", "timestamp": "2026-08-01T12:00:00.000Z", "data": {"text": "ä"}}
    return Claim("dlv_1", "whk_1", 1, url, secrets or (make_secret(),), payload, datetime.now(UTC))


@pytest.fixture
def sender() -> Sender:
    return Sender(Guard(allow_http=True, networks=LOOPBACK))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver with TLS, whose certificate is for NAME and which the system trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    yield from serve(context)


def test_a_message_is_signed_as_standard_webhooks_says(sender: Sender, receiver: Receiver) -> None:
    old, new = make_secret(), make_secret()
    sent = claim(receiver.url, new, old)
    assert sender.send(sent).error is None
    (got,) = receiver.received
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["webhook-id"] == "dlv_1"
    for secret in (old, new):
        assert Webhook(secret).verify(got.body, dict(got.headers)) == sent.payload
    for body, secret in ((got.body + b" ", old), (got.body, make_secret())):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(body, dict(got.headers))


def test_redirects_are_not_followed(sender: Sender, receiver: Receiver) -> None:
    receiver.status, receiver.headers = 307, {"Location": receiver.url + "/elsewhere"}
    outcome = sender.send(claim(receiver.url))
    assert outcome.status == 307
    assert outcome.error == "answered 307; redirects are not followed"
    assert len(receiver.received) == 1


def test_an_answer_that_drips_is_cut_off(receiver: Receiver) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100):
            handler.wfile.write(b"x: y\r\n")
            time.sleep(0.03)

    receiver.answer = drip
    begun = time.monotonic()
    outcome = Sender(Guard(allow_http=True, networks=LOOPBACK), seconds=0.3).send(claim(receiver.url))
    assert outcome.error == "no complete answer within 0.3 seconds"
    assert 0.3 <= time.monotonic() - begun < 2.9  # the whole answer takes 3


def test_an_answer_without_end_is_not_read_to_its_end(sender: Sender, receiver: Receiver) -> None:
    written = []

    def flood(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while sum(written) < 2**30:
            written.append(handler.wfile.write(bytes(ANSWER_BYTES)))

    receiver.answer = flood
    assert sender.send(claim(receiver.url)).status == 200
    assert sum(written) < 2**26


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200"])
def test_answers_that_are_none(sender: Sender, receiver: Receiver, answer: bytes) -> None:
    def say(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(answer)

    receiver.answer = say
    outcome = sender.send(claim(receiver.url))
    assert (outcome.status, bool(outcome.error)) == (None, True)


def test_an_attempt_without_time_left_is_none() -> None:
    sender = Sender(Guard(allow_http=True, networks=LOOPBACK), seconds=0)
    assert sender.send(claim("http://127.0.0.1:1/")).error == "no complete answer within 0 seconds"


def test_nobody_is_there(sender: Sender) -> None:
    assert "refused" in str(sender.send(claim("http://127.0.0.1:9/")).error)


def test_a_name_is_looked_up_once_and_its_address_connected_to(secure: Receiver) -> None:
    asked = []

    def lookup(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.9", "127.0.0.1"]  # nobody listens at the first

    guard = Guard(networks=LOOPBACK, lookup=lookup)
    assert Sender(guard).send(claim(f"https://{NAME}:{secure.port}/hook?a=b")).error is None
    (got,) = secure.received
    assert asked == [NAME]
    assert (got.path, got.headers["host"]) == ("/hook?a=b", f"{NAME}:{secure.port}")


def test_a_certificate_for_another_name_is_refused(secure: Receiver) -> None:
    guard = Guard(networks=LOOPBACK, lookup=lambda host, port: ["127.0.0.1"])
    outcome = Sender(guard).send(claim(f"https://other.example:{secure.port}/hook"))
    assert "certificate" in str(outcome.error)
    assert secure.received == []


def test_a_name_that_now_stands_for_an_inner_address_reaches_nothing(receiver: Receiver) -> None:
    """DNS rebinding: harmless when the webhook was made, and inside when it is told."""
    answers = [["93.184.216.34"], ["127.0.0.1"]]
    guard = Guard(allow_http=True, lookup=lambda host, port: answers.pop(0))
    url = f"http://{NAME}:{receiver.port}/hook"
    guard.check(url, 1)
    outcome = Sender(guard).send(claim(url))
    assert str(outcome.error).startswith(f"refused: {NAME} stands for 127.0.0.1")
    assert receiver.received == []
