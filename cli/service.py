"""The commands that run the service: serve, worker, migrate, and version."""

import os
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from cli.connection import KEY_FILE, local_url
from cli.console import out
from core.settings import settings_from_env


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; default PRUNERY_HOST or 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 picks a free one; default PRUNERY_PORT or 8000.")
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of all data; default PRUNERY_DATA_DIR.")
    ] = None,
) -> None:
    """Run the whole service on this machine: API, worker, SQLite, no server to install. Ctrl-C stops it."""
    from cli.embedded import listening, run
    from cli.keys import first_key
    from core.db.migrate import migrate as bring_to_newest

    # The worker is a process of its own and reads the same variables.
    given = {"PRUNERY_HOST": host, "PRUNERY_PORT": port, "PRUNERY_DATA_DIR": data_dir}
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    settings = settings_from_env()
    with listening(settings.host, settings.port) as listener:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        bring_to_newest(settings.database_url)
        made = first_key(settings)
        url = local_url(settings.model_copy(update={"port": listener.getsockname()[1]}))
        out.print(f"Prunery listens on {url}", highlight=False, soft_wrap=True)
        origin = "made now" if made else "made by an earlier start"
        out.print(f"API key in {settings.data_dir / KEY_FILE} ({origin})", highlight=False, soft_wrap=True)
        out.print(f"Data in {settings.data_dir}; Ctrl-C stops everything", highlight=False, soft_wrap=True)
        run(settings, listener)


def worker(
    check: Annotated[
        bool, typer.Option("--check", help="Only ask whether the worker of this machine answers.")
    ] = False,
) -> None:
    """Run one worker, as many jobs at a time as PRUNERY_WORKER_SLOTS says."""
    from worker import __main__ as entry

    if not check:
        raise typer.Exit(entry.main())
    if entry.check() != 0:
        raise typer.TyperException("no worker of this machine has given a sign of life within a minute")


def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing: only ask whether migrations are missing.")
    ] = False,
) -> None:
    """Bring the database to the newest schema; safe to repeat."""
    from core.db.migrate import is_behind
    from core.db.migrate import migrate as bring_to_newest

    url = settings_from_env().database_url
    if not check:
        bring_to_newest(url)
    elif is_behind(url):
        raise typer.TyperException("the database lacks migrations of this version; run `prunery migrate`")


def version() -> None:
    """Print the installed version."""
    out.print(installed_version("prunery"), highlight=False)
