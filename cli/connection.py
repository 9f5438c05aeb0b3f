"""Where the service is and with which key to ask it."""

import os

import typer

from client import PruneryClient
from core.settings import Settings, settings_from_env

KEY_FILE = "api-key"
"""Name of the file in the data folder that `prunery serve` keeps its first key in."""


class NoKey(typer.TyperException):
    """No API key is set and none lies in the data folder."""


def connect() -> PruneryClient:
    """A client for PRUNERY_URL with PRUNERY_API_KEY, or else for this machine's service with its key file.

    Raises NoKey when there is neither a variable nor a file.
    """
    settings = settings_from_env()
    return PruneryClient(os.environ.get("PRUNERY_URL") or local_url(settings), _key(settings))


def local_url(settings: Settings) -> str:
    """The address that `prunery serve` listens on under these settings."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


def _key(settings: Settings) -> str:
    if key := os.environ.get("PRUNERY_API_KEY"):
        return key
    path = settings.data_dir / KEY_FILE
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        raise NoKey(
            f"PRUNERY_API_KEY is not set and there is no {path}: set it, or start `prunery serve` here"
        ) from None
