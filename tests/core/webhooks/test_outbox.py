"""Messages are claimed by one sender at a time, tried again, given up, and forgotten."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core.artifacts.local import LocalStore
from core.clock import now
from core.db import Database
from core.errors import Conflict, NotFound
from core.settings import Settings
from core.sweep import sweep
from core.webhooks import outbox, repository
from core.webhooks.outbox import Claim, Outcome
from core.webhooks.tables import DeliveryStatus, Webhook, WebhookDelivery
from tests.support.ledger import make_job, make_owner
from tests.support.webhooks import deliveries, make_hook

REFUSED = Outcome(500, "answered 500")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", webhook_max_attempts=3)


@pytest.fixture
def local(sqlite_url: str) -> Iterator[Database]:
    """An empty database, where what is tested is no question of its kind."""
    database = Database(sqlite_url)
    yield database
    database.dispose()


def pinged(session: Session) -> tuple[str, WebhookDelivery]:
    """An owner, and a message of theirs that is due."""
    owner = make_owner(session)
    return owner, repository.ping(session, owner, make_hook(session, owner).id)


def attempt(database: Database, delivery_id: str, outcome: Outcome, settings: Settings) -> None:
    """Send a delivery, as if it were due now."""
    with database.write() as session:
        session.execute(update(WebhookDelivery).values(due_at=now(session)))
        claimed = outbox.claim(session, delivery_id)
    assert claimed is not None
    with database.write() as session:
        outbox.settle(session, claimed, outcome, settings)


def look(database: Database, delivery: WebhookDelivery) -> tuple[WebhookDelivery, Webhook]:
    with database.read() as session:
        query = select(WebhookDelivery, Webhook).join(Webhook)
        found = session.execute(query.where(WebhookDelivery.id == delivery.id)).one()
        return found[0], found[1]


def test_of_many_senders_one_gets_the_claim(database: Database) -> None:
    with database.write() as session:
        _, delivery = pinged(session)
    claims: list[Claim | None] = []
    ready = threading.Barrier(4)

    def take() -> None:
        ready.wait()
        with database.write() as session:
            claims.append(outbox.claim(session, delivery.id))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [claimed.attempt for claimed in claims if claimed] == [1]
    with database.read() as session:
        assert outbox.due(session, 10) == []


def test_each_webhook_has_one_message_under_way(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        slow, other = make_hook(session, owner, path="slow"), make_hook(session, owner, path="other")
        first, second = (repository.ping(session, owner, slow.id) for _ in range(2))
        third = repository.ping(session, owner, other.id)
    with database.write() as session:
        assert outbox.due(session, 10) == [first.id, third.id]
        assert outbox.due(session, 1) == [first.id]
        outbox.claim(session, first.id)
        assert outbox.due(session, 10) == [third.id]
        session.execute(update(WebhookDelivery).values(claimed_until=now(session) - timedelta(seconds=1)))
        assert outbox.due(session, 10) == [first.id, third.id]
        assert second.status is DeliveryStatus.PENDING


def test_a_failure_is_tried_again_and_then_given_up(local: Database, settings: Settings) -> None:
    with local.write() as session:
        owner, delivery = pinged(session)
    attempt(local, delivery.id, REFUSED, settings)
    found, hook = look(local, delivery)
    assert (found.status, found.attempts, found.response_status) == (DeliveryStatus.PENDING, 1, 500)
    assert found.attempted_at is not None
    assert timedelta(seconds=5) <= found.due_at - found.attempted_at < timedelta(seconds=15)
    assert hook.failing_since is not None
    for _ in range(2):
        attempt(local, delivery.id, REFUSED, settings)
    found, _ = look(local, delivery)
    assert (found.status, found.attempts, found.error) == (DeliveryStatus.FAILED, 3, "answered 500")
    with local.write() as session:
        repository.redeliver(session, owner, hook.id, delivery.id)
    attempt(local, delivery.id, REFUSED, settings)
    assert look(local, delivery)[0].status is DeliveryStatus.PENDING
    attempt(local, delivery.id, Outcome(200), settings)
    found, hook = look(local, delivery)
    assert (found.status, found.attempts, found.error) == (DeliveryStatus.DELIVERED, 5, None)
    assert hook.failing_since is None


def test_waits_grow_to_a_limit() -> None:
    longest = [outbox.wait(tries, 10) for tries in range(1, 30)]
    assert timedelta(seconds=5) <= longest[0] <= timedelta(seconds=10)
    assert timedelta(seconds=15) <= longest[1] <= timedelta(seconds=30)
    assert timedelta(hours=3) <= longest[-1] <= timedelta(hours=6)
    assert len(set(longest)) == len(longest)


@pytest.mark.parametrize("reason", ["gone", "failing"])
def test_a_webhook_is_disabled_with_what_it_was_to_be_told(
    local: Database, settings: Settings, reason: str
) -> None:
    with local.write() as session:
        owner, delivery = pinged(session)
        waiting = repository.ping(session, owner, delivery.webhook_id)
        long_ago = now(session) - timedelta(hours=settings.webhook_disable_after_hours + 1)
        if reason == "failing":
            session.execute(update(Webhook).values(failing_since=long_ago))
    attempt(local, delivery.id, Outcome(410, "answered 410") if reason == "gone" else REFUSED, settings)
    found, hook = look(local, delivery)
    assert (hook.disabled_reason, found.status) == (reason, DeliveryStatus.FAILED)
    dropped, _ = look(local, waiting)
    assert (dropped.status, dropped.error) == (
        DeliveryStatus.FAILED,
        "The webhook was disabled before this was sent.",
    )
    with local.write() as session:
        make_job(session, owner)
        assert len(deliveries(session)) == 2
        for refused in (repository.ping, lambda *given: repository.redeliver(*given, delivery.id)):
            with pytest.raises(Conflict, match="enable it first"):
                refused(session, owner, hook.id)
        enabled = repository.update(session, owner, hook.id, enabled=True)
        assert (enabled.disabled_at, enabled.disabled_reason, enabled.failing_since) == (None, None, None)


def test_an_attempt_that_was_overtaken_changes_nothing(local: Database, settings: Settings) -> None:
    with local.write() as session:
        _, delivery = pinged(session)
        overtaken = outbox.claim(session, delivery.id)
        session.execute(update(WebhookDelivery).values(claimed_until=now(session) - timedelta(seconds=1)))
    attempt(local, delivery.id, Outcome(200), settings)
    assert overtaken is not None
    with local.write() as session:
        outbox.settle(session, overtaken, REFUSED, settings)
    assert look(local, delivery)[0].status is DeliveryStatus.DELIVERED


def test_old_secrets_sign_until_their_time_is_over(local: Database) -> None:
    with local.write() as session:
        owner, delivery = pinged(session)
        hook = repository.get(session, owner, delivery.webhook_id)
        first = hook.secret
        second = repository.rotate_secret(session, owner, hook.id, timedelta(hours=1)).secret
        repository.rotate_secret(session, owner, hook.id, timedelta(hours=1))
        claimed = outbox.claim(session, delivery.id)
        assert claimed is not None
        assert claimed.secrets == (hook.secret, second, first)
        assert len({hook.secret, second, first}) == 3
        over = [each | {"until": "2020-01-01T00:00:00.000Z"} for each in hook.old_secrets]
        session.execute(update(Webhook).values(old_secrets=over))
        session.execute(update(WebhookDelivery).values(claimed_until=None))
        claimed = outbox.claim(session, delivery.id)
        assert claimed is not None
        assert claimed.secrets == (hook.secret,)
        leaked = repository.rotate_secret(session, owner, hook.id, timedelta(0))
        assert leaked.old_secrets == []


def test_a_delivery_is_found_by_its_webhook_only(local: Database) -> None:
    with local.write() as session:
        owner = make_owner(session)
        one, other = (make_hook(session, owner, path=path) for path in ("a", "b"))
        repository.ping(session, owner, one.id)
        (sent,) = deliveries(session, webhook_id=one.id)
        assert repository.get_delivery(session, owner, one.id, sent.id).id == sent.id
        with pytest.raises(NotFound, match=f"no delivery {sent.id} of {other.id}"):
            repository.get_delivery(session, owner, other.id, sent.id)


def test_an_owner_has_an_address_once_and_not_too_many(local: Database) -> None:
    with local.write() as session:
        owner, other = make_owner(session), make_owner(session)
        for number in range(repository.MAX_WEBHOOKS):
            make_hook(session, owner, path=str(number))
        with pytest.raises(Conflict, match="has this address already"):
            make_hook(session, owner, path="1")
        with pytest.raises(Conflict, match="delete one first"):
            make_hook(session, owner, path="more")
        theirs = make_hook(session, other, path="1")
        with pytest.raises(NotFound):
            repository.delete(session, owner, theirs.id)
        repository.ping(session, other, theirs.id)
        repository.delete(session, other, theirs.id)
        assert deliveries(session) == []


def test_deliveries_that_are_over_are_forgotten(local: Database, settings: Settings) -> None:
    with local.write() as session:
        owner, delivered = pinged(session)
        pending = repository.ping(session, owner, delivered.webhook_id)
    attempt(local, delivered.id, Outcome(200), settings)
    store = LocalStore(settings.store_dir)
    assert sweep(local, store, settings).deliveries == 0
    with local.write() as session:
        old = now(session) - timedelta(days=settings.webhook_retention_days, seconds=1)
        session.execute(update(WebhookDelivery).values(created_at=old))
    assert sweep(local, store, settings).deliveries == 1
    with local.read() as session:
        assert [each.id for each in deliveries(session)] == [pending.id]
