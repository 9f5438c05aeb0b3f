import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Prunery

ROOT = Path(__file__).parents[3]


def test_a_service_that_is_well(prunery: Prunery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PRUNERY_WORKER_QUEUE", raising=False)
    assert prunery("migrate")[0] == 0
    status, said, _ = prunery("doctor", "--json")
    findings = json.loads(said)
    assert status == 0
    assert {finding["status"] for finding in findings} <= {"ok", "warn"}
    checks = [finding["check"] for finding in findings]
    assert checks[:6] == ["settings", "database", "schema", "clock", "database writes", "broker"]
    assert all(set(finding) == {"check", "status", "detail", "remedy"} for finding in findings)


def test_what_fails_is_one_line_with_its_remedy(prunery: Prunery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRUNERY_CHILD_MEMORY_BYTES", str(256 * 2**20))  # torch is not worth waiting for
    status, said, _ = prunery("doctor")
    assert status == 1
    assert any(line.startswith("fail  database: ") and " -> " in line for line in said.splitlines())
    assert any(line.startswith("ok    broker: ") for line in said.splitlines())


@pytest.mark.parametrize(
    ("name", "value"), [("PRUNERY_LEASE_SECONDS", "1"), ("PRUNERY_HUB_TOKEN_FILE", "/no/such/file")]
)
def test_settings_that_cannot_be_read_are_all_that_is_said(
    prunery: Prunery, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    status, said, _ = prunery("doctor")
    assert status == 1
    assert len(said.splitlines()) == 1
    assert said.startswith("fail  settings: ")


def test_the_process_that_asks_loads_no_torch() -> None:
    code = "import sys, cli.main, cli.doctor.command; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
