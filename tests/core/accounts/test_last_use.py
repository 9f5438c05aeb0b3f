"""The last use of a key is written by a thread, and at the latest when the process ends."""

from datetime import timedelta

import pytest

from core.accounts import repository
from core.accounts.last_use import LastUse
from core.clock import now
from core.db import Database
from core.errors import DatabaseUnavailable
from tests.support.ledger import make_owner


def test_uses_are_written_when_the_process_ends_and_never_go_back(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        key, _ = repository.create_key(session, owner, "laptop")
        later = now(session) + timedelta(hours=1)
    uses = LastUse(database)
    uses.start()
    uses.note(key.id)
    uses.stop()
    with database.write() as session:
        record = repository.get_key(session, owner, key.id)
        assert record.last_used_at is not None
        assert abs(now(session) - record.last_used_at) < timedelta(seconds=30)
        record.last_used_at = later
    uses.note(key.id)
    uses.write()
    with database.read() as session:
        assert repository.get_key(session, owner, key.id).last_used_at == later


def test_a_database_that_is_away_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    uses = LastUse(Database("postgresql+psycopg://127.0.0.1:1/none"))
    uses.note("key_1")
    with pytest.raises(DatabaseUnavailable):
        uses.write()
    uses.note("key_1")
    uses.start()
    uses.stop()
    assert "the last use of keys is not written" in caplog.text
