"""Every setting of the service, read from environment variables that begin with `PRUNERY_`.

`python -m core.settings` checks the table docs/settings.md against these classes; `--write` writes it.
"""

import os
from pathlib import Path
from typing import Any

from pydantic_settings import SettingsConfigDict

from core.settings.limits import Limits
from core.settings.running import Running
from core.settings.serving import Serving
from core.settings.storage import Storage

SECRET_FIELDS = ("database_url", "broker_url", "hub_token", "s3_secret_access_key")
"""Fields that may hold a password; each can be read from a file named by `PRUNERY_<FIELD>_FILE` instead."""


# The table has the fields in the order of the last base first.
class Settings(Limits, Running, Serving, Storage):
    """What a person can set, with the default of each; frozen once made."""

    model_config = SettingsConfigDict(env_prefix="PRUNERY_", frozen=True, validate_default=True)


def settings_from_env() -> Settings:
    """Read the environment; a `PRUNERY_<FIELD>_FILE` variable supplies a secret field from a file."""
    secrets: dict[str, Any] = {}
    for field in SECRET_FIELDS:
        if path := os.environ.get(f"PRUNERY_{field.upper()}_FILE"):
            secrets[field] = Path(path).read_text("utf-8").strip()
    return Settings(**secrets)
