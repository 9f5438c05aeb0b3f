"""The command: every check in turn, one line for each finding, 1 when something does not work."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Annotated

import typer
from pydantic import ValidationError

from cli.console import out
from cli.doctor.broker import check_broker
from cli.doctor.engine import check_engine
from cli.doctor.environment import check_settings
from cli.doctor.finding import Finding
from cli.doctor.ledger import check_database
from cli.doctor.signing import check_signing_key
from cli.doctor.storage import check_storage
from cli.problems import setting_problems
from core.settings import Settings, settings_from_env

CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    check_settings,
    check_database,
    check_broker,
    check_storage,
    check_signing_key,
    check_engine,
)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array instead of lines.")] = False,
) -> None:
    """Check settings, database, broker, storage, clock and engine, and say what to do about what fails."""
    findings = []
    for finding in _findings():
        findings.append(finding)
        if not as_json:
            out.print(_line(finding), markup=False, highlight=False, soft_wrap=True)
    if as_json:
        text = json.dumps([asdict(finding) for finding in findings], indent=2)
        out.print(text, markup=False, highlight=False, soft_wrap=True)
    if any(finding.status == "fail" for finding in findings):
        raise typer.Exit(1)


def _findings() -> Iterator[Finding]:
    remedy = "see docs/settings.md"
    try:
        settings = settings_from_env()
    except ValidationError as error:
        for problem in setting_problems(error):
            yield Finding("settings", "fail", problem, remedy)
        return
    except OSError as error:
        yield Finding("settings", "fail", f"the file of a secret cannot be read: {error}", remedy)
        return
    for check in CHECKS:
        yield from check(settings)


def _line(finding: Finding) -> str:
    line = f"{finding.status:<4}  {finding.check}: {finding.detail}"
    return f"{line} -> {finding.remedy}" if finding.remedy else line
