"""Whether there is a key to sign results with, and whether others can read it."""

from collections.abc import Iterator

from cli.doctor.finding import Finding, last_words
from core.errors import LedgerError
from core.settings import Settings
from core.signing.keys import load_or_make


def check_signing_key(settings: Settings) -> Iterator[Finding]:
    """Read the key, but make none: on a machine of workers there is to be none."""
    path = settings.signing_key_file
    if not path.exists():
        yield Finding("signing key", "ok", f"none yet; an API makes {path} at its first start")
        return
    try:
        key = load_or_make(path)
        mode = path.stat().st_mode & 0o077
    except (OSError, LedgerError) as error:
        yield Finding("signing key", "fail", last_words(error), "give a key, or remove the file")
        return
    if mode:
        yield Finding("signing key", "warn", f"others can read {path}", f"chmod 600 {path}")
    else:
        yield Finding("signing key", "ok", f"results are signed by {key.id}")
