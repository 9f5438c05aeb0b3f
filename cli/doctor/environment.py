"""Whether the settings can be read, and whether a variable is misspelled."""

import os
from collections.abc import Iterator

from cli.doctor.finding import Finding
from core.settings import SECRET_FIELDS, Settings

_OTHERS = ("PRUNERY_URL", "PRUNERY_API_KEY", "PRUNERY_BIND")
"""Variables of the command line and of compose, which are no settings of the service."""


def check_settings(settings: Settings) -> Iterator[Finding]:
    """Name the variables that nothing reads: a misspelled one is ignored without a word."""
    known = {f"PRUNERY_{name.upper()}" for name in Settings.model_fields}
    known |= {f"PRUNERY_{name.upper()}_FILE" for name in SECRET_FIELDS} | set(_OTHERS)
    ours = (name for name in os.environ if name.upper().startswith("PRUNERY_"))
    unread = sorted(name for name in ours if name not in known and not name.startswith("PRUNERY_TEST_"))
    if unread:
        names = ", ".join(unread)
        yield Finding("settings", "warn", f"nothing reads {names}", "compare with docs/settings.md")
    else:
        yield Finding("settings", "ok", f"data in {settings.data_dir}")
