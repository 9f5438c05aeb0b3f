"""The console script `prunery`: its commands, and how every error becomes one line and an exit status."""

import sys
from collections.abc import Sequence

import typer
from pydantic import ValidationError
from rich.console import Console

from cli import audit, backup, jobs, keys, owners, service, submit, webhooks
from cli.doctor.command import doctor
from cli.problems import setting_problems
from cli.verify import verify
from client import ApiProblem, ClientError, LocalFileProblem
from core.errors import LedgerError

WRONG_USE = 2
"""Exit status when the command itself has to be changed; 1 when something went wrong that is not its fault.
"""

application = typer.Typer(
    name="prunery",
    help="Make transformer models smaller and faster: run the service, and talk to it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
application.command()(service.serve)
application.command()(service.worker)
application.command()(service.migrate)
application.command()(doctor)
application.command()(backup.backup)
application.command()(backup.restore)
application.add_typer(owners.application, name="owners")
application.add_typer(keys.application, name="keys")
application.command()(audit.audit)
application.command()(submit.submit)
application.command()(submit.plan)
application.command()(jobs.watch)
application.command()(jobs.log)
application.command("list")(jobs.list_jobs)
application.command()(jobs.pause)
application.command()(jobs.resume)
application.command()(jobs.cancel)
application.command()(jobs.download)
application.command()(verify)
application.command()(jobs.methods)
application.command()(jobs.workers)
application.add_typer(webhooks.application, name="webhooks")
application.command()(service.version)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status."""
    try:
        return application(list(arguments), standalone_mode=False) or 0
    except typer.TyperException as error:
        return _complain(error.format_message(), error.exit_code)
    except ApiProblem as problem:
        return _complain(str(problem), WRONG_USE if 400 <= problem.status < 500 else 1)
    except LocalFileProblem as problem:
        return _complain(str(problem), WRONG_USE)
    except ValidationError as error:
        return _complain("; ".join(setting_problems(error)), WRONG_USE)
    except (ClientError, LedgerError, OSError) as error:
        return _complain(str(error), 1)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run(sys.argv[1:]))


def _complain(message: str, status: int) -> int:
    line = " ".join(message.split())
    Console(stderr=True).print(f"error: {line}", markup=False, highlight=False, soft_wrap=True)
    return status
