"""The running service keeps to its OpenAPI document, whatever it is asked: schemathesis asks it.

What is checked, and what is not, is in schemathesis.toml.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.contract.service import Stocked, stocked
from tests.support.hub_server import HubServer
from tests.support.workers import figure

CONFIG = Path(__file__).with_name("schemathesis.toml")
PROGRAM = Path(sys.executable).with_name("schemathesis")
# As in tests/conftest.py: the gate repeats itself; a person's runs look for new cases.
DRAWN = (
    ("--generation-deterministic", "--seed", "0") if "CI" in os.environ else ("--generation-database", "none")
)


def test_the_service_keeps_to_its_document(tmp_path: Path, sqlite_url: str, hub_server: HubServer) -> None:
    with stocked(tmp_path, sqlite_url, hub_server, each=2) as service:
        report = ask(service, tmp_path, "--phases", "examples,fuzzing,stateful", "--max-examples", "3")
    assert report["test_cases"]["generated"] >= 250


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_five_thousand_cases(tmp_path: Path, postgres_url: str, hub_server: HubServer) -> None:
    with stocked(tmp_path, postgres_url, hub_server, each=12) as service:
        report = ask(service, tmp_path, "--max-examples", "60")
    cases, answered = report["test_cases"], succeeded(report)
    assert cases["generated"] >= 5000
    assert len(answered) >= 45, "little was said about the answers of the others"
    figure(
        f"{cases['generated']} cases of {report['operations']['tested']} operations, 0 failures, "
        f"{len(answered)} operations succeeded, {report['running_time']:.0f} s on PostgreSQL"
    )


def ask(service: Stocked, folder: Path, *options: str) -> dict[str, Any]:
    """Run schemathesis and return its report, which must not tell of any failure."""
    config, kept = folder / "schemathesis.toml", folder / "report.json"
    config.write_text(CONFIG.read_text() + known(service.ids))
    own = {
        "PRUNERY_CONTRACT_KEY": service.key,
        "PRUNERY_CONTRACT_SPARE_KEY_ID": service.ids["key"][0],
    }
    done = subprocess.run(
        [
            *(PROGRAM, "--config-file", config, "run", f"{service.url}/openapi.json", "--no-color"),
            *("--report", "json", "--report-json-path", kept, *DRAWN, *options),
        ],
        cwd=folder,
        env=os.environ | own,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report: dict[str, Any] = json.loads(kept.read_text())
    assert (report["failures"], report["errors"]) == ([], [])
    assert report["operations"]["tested"] == report["operations"]["total"]
    still = httpx.get(f"{service.url}/v1/account", headers={"Authorization": f"Bearer {service.key}"})
    assert still.status_code == 200, "the key was lost on the way: nothing was tested behind it"
    return report


def known(ids: Mapping[str, Sequence[str]]) -> str:
    """The rest of the configuration: what the service holds."""
    return "".join(f"\n[dictionaries.{kind}]\nvalues = {json.dumps(some)}\n" for kind, some in ids.items())


def succeeded(report: dict[str, Any]) -> set[str]:
    """The operations of which a request succeeded."""
    return {
        name
        for name, phases in report["valid_rates"].items()
        if any(counts["accepted"] for counts in phases.values())
    }
