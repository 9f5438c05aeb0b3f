"""Keys are well formed, stored only as a hash, and useless once revoked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from core.accounts import repository
from core.accounts.keys import PREFIX, is_well_formed, make_key
from core.db import Database
from core.errors import Conflict, InvalidRequest, NotFound, Unauthorized
from tests.support.ledger import make_owner


def test_keys_are_all_different_and_of_one_length() -> None:
    keys = {make_key() for _ in range(100)}
    assert len(keys) == 100
    assert {len(key) for key in keys} == {len(PREFIX) + 49}
    assert all(is_well_formed(key) for key in keys)


@given(position=st.integers(0, 57), letter=st.sampled_from("0aZ_é"))
def test_a_slip_of_the_pen_is_noticed(position: int, letter: str) -> None:
    key = make_key()
    changed = key[:position] + letter + key[position + 1 :]
    assert is_well_formed(changed) == (changed == key)


@given(text_of_key=st.text(max_size=80))
def test_any_text_is_judged(text_of_key: str) -> None:
    assert not is_well_formed(text_of_key)


def test_a_key_without_scopes_is_none(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        with pytest.raises(InvalidRequest, match="at least one scope") as refused:
            repository.create_key(session, owner, "laptop", scopes=frozenset())
    assert refused.value.param == "/scopes"


def test_a_key_says_who_calls_until_it_is_revoked(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        record, plaintext = repository.create_key(session, owner, "laptop")
        _, other = repository.create_key(session, owner, "server")
    with database.read() as session:
        assert repository.authenticate(session, plaintext) == repository.Caller(owner, record.id)
        assert [key.name for key in repository.list_keys(session, owner)] == ["laptop", "server"]
    for _ in range(2):
        with database.write() as session:
            revoked = repository.revoke_key(session, owner, record.id)
    assert revoked.revoked_at is not None
    with database.read() as session:
        with pytest.raises(Unauthorized):
            repository.authenticate(session, plaintext)
        assert repository.authenticate(session, other).owner_id == owner


@pytest.mark.parametrize("key", ["", "prn_live_", "Bearer x", pytest.param(make_key(), id="well formed")])
def test_unknown_keys_are_refused(database: Database, key: str) -> None:
    with database.read() as session, pytest.raises(Unauthorized):
        repository.authenticate(session, key)


def test_the_database_never_sees_the_key(database: Database) -> None:
    with database.write() as session:
        owner = make_owner(session)
        record, plaintext = repository.create_key(session, owner, "laptop")
    with database.read() as session:
        stored = str(session.execute(text("SELECT * FROM api_keys")).all())
    assert plaintext not in stored
    assert plaintext.startswith(record.prefix)
    assert len(record.prefix) < 20


def test_keys_belong_to_owners(database: Database) -> None:
    with database.write() as session:
        owner, other = make_owner(session), make_owner(session)
        record, _ = repository.create_key(session, owner, "laptop")
    with database.write() as session:
        with pytest.raises(NotFound):
            repository.revoke_key(session, other, record.id)
        with pytest.raises(NotFound):
            repository.create_key(session, "own_none", "x")


def test_names_of_owners_are_unique(database: Database) -> None:
    with database.write() as session:
        owner = repository.create_owner(session, "me")
        assert repository.find_owner(session, "me") is owner
        assert repository.find_owner(session, "you") is None
        with pytest.raises(Conflict):
            repository.create_owner(session, "me")
