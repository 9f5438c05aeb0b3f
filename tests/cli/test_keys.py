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
