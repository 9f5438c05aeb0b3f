from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.keys import first_key
from core.accounts.repository import authenticate
from core.db import Database, migrate
from core.errors import Unauthorized
from core.settings import Settings
from tests.cli.conftest import Prunery


def test_a_key_works_until_it_is_revoked(prunery: Prunery, tmp_path: Path) -> None:
    code, _, said = prunery("migrate", "--check")
    assert (code, said) == (
        1,
        "error: the database lacks migrations of this version; run `prunery migrate`\n",
    )
    assert prunery("migrate")[0] == 0
    assert prunery("migrate", "--check") == (0, "", "")
    code, plaintext, said = prunery("keys", "create", "laptop")
    assert code == 0
    key_id = said.split()[0]
    database = Database(Settings(data_dir=tmp_path / "prunery-data").database_url)
    try:
        with database.read() as session:
            assert authenticate(session, plaintext.strip()).key_id == key_id
        listed = prunery("keys", "list")[1]
        assert key_id in listed
        assert "laptop" in listed
        assert plaintext.strip() not in listed
        assert prunery("keys", "revoke", key_id) == (0, f"{key_id} is revoked\n", "")
        with database.read() as session, pytest.raises(Unauthorized):
            authenticate(session, plaintext.strip())
    finally:
        database.dispose()


def test_a_key_may_be_restricted_and_end(prunery: Prunery) -> None:
    prunery("migrate")
    code, _, said = prunery(
        "keys", "create", "ci", "--scope", "jobs:read", "--scope", "models:read", "--expires-days", "1"
    )
    assert code == 0
    shown = prunery("keys", "list")[1]
    assert "models:read jobs:read" in shown
    assert f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%d}" in shown
    assert prunery("keys", "create", "ci", "--scope", "jobs:steal")[0] == 2
    assert prunery("keys", "revoke", said.split()[0], "--owner", "nobody")[0] == 1


def test_owners_have_limits(prunery: Prunery) -> None:
    prunery("migrate")
    prunery("keys", "create", "laptop", "--owner", "team")
    assert "0 of 1,000" in prunery("owners", "list")[1]
    limits = ("--queued-jobs", "5", "--running-jobs", "2", "--stored-bytes", "1000000")
    assert prunery("owners", "limit", "team", *limits) == (0, "team has new limits\n", "")
    shown = prunery("owners", "list")[1]
    assert all(figure in shown for figure in ("0 of 5", "0 of 2", "0 of 1,000,000"))
    assert prunery("owners", "limit", "team", "--queued-jobs", "-1")[0] == 0
    shown = prunery("owners", "list")[1]
    assert "0 of 1,000 " in shown
    assert "0 of 2" in shown
    code, _, complaint = prunery("owners", "limit", "team")
    assert (code, complaint.count("\n")) == (2, 1)
    assert "there is no owner 'nobody'" in prunery("owners", "limit", "nobody", "--queued-jobs", "1")[2]


def test_the_command_line_is_in_the_audit_log(prunery: Prunery) -> None:
    prunery("migrate")
    key_id = prunery("keys", "create", "laptop")[2].split()[0]
    prunery("keys", "revoke", key_id)
    prunery("owners", "limit", "default", "--queued-jobs", "5")
    shown = prunery("audit")[1]
    for action in ("owner.create", "key.create", "key.revoke", "owner.limit"):
        assert action in shown
    assert "operator" in shown
    assert key_id in prunery("audit", "--action", "key.revoke")[1]
    assert key_id not in prunery("audit", "--action", "owner.limit")[1]


def test_the_first_key_is_made_once_and_again_when_it_is_void(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    migrate(settings.database_url)
    path = tmp_path / "api-key"
    assert first_key(settings)
    first = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert not first_key(settings)
    assert path.read_text() == first
    path.write_text("prn_live_from_another_database\n")
    assert first_key(settings)
    assert path.read_text() not in (first, "prn_live_from_another_database\n")
