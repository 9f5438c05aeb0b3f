"""A record is there when its change is, and goes when it is old enough."""

from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from core.accounts.repository import Caller, operator_for
from core.assets import repository as assets
from core.assets.tables import Model
from core.audit import log
from core.audit.tables import AuditRecord
from core.clock import now
from core.db import Database
from core.errors import NotFound
from tests.support.ledger import make_model, make_owner


def test_a_change_that_fails_leaves_no_record(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        model = make_model(session, owner)
    caller = Caller(owner, "key_1", request_id="req_1")

    def delete(session: Session) -> None:
        assets.delete(session, Model, owner, model)
        log.record(session, caller, "model.delete", model)

    def fail() -> None:
        with database.write() as session:
            delete(session)
            assets.get(session, Model, owner, model)

    with pytest.raises(NotFound):
        fail()
    with database.read() as session:
        assert assets.get(session, Model, owner, model)
        assert log.list_records(session, owner).data == []
    with database.write() as session:
        delete(session)
    with database.read() as session:
        (record,) = log.list_records(session, owner, action="model.delete").data
    assert (record.actor, record.object, record.outcome, record.request_id) == (
        "key_1",
        model,
        "done",
        "req_1",
    )


def test_old_records_are_forgotten(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        for action in ("key.create", "key.revoke"):
            log.record(session, operator_for(owner), action, "key_1")
        session.flush()
        old = update(AuditRecord).where(AuditRecord.action == "key.create")
        session.execute(old.values(at=now(session) - timedelta(days=31)))
    with database.write() as session:
        assert log.forget_old(session, days=30) == 1
    with database.read() as session:
        assert [record.action for record in log.list_records(session, owner).data] == ["key.revoke"]
