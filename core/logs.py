"""How every process of the service logs: to stderr, one line of text or one JSON object per record.

A JSON object also says which request or job it is about; no record, whoever wrote it, shows a secret.
"""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

from core.clock import rfc3339
from core.settings import Settings

_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_HIDDEN = "***"
_SECRETS = (
    (re.compile(r"prn_live_[0-9A-Za-z]+"), f"prn_live_{_HIDDEN}"),
    (re.compile(r"whsec_[0-9A-Za-z+/=]+"), f"whsec_{_HIDDEN}"),
    (re.compile(r"\bhf_[0-9A-Za-z]{8,}"), f"hf_{_HIDDEN}"),
    (re.compile(r"(X-Amz-(?:Signature|Security-Token)=)[^&\s\"']+"), rf"\1{_HIDDEN}"),
    (re.compile(r"""(://[^\s/:@"']*):[^\s/@"']+@"""), rf"\1:{_HIDDEN}@"),
)
"""Our keys, secrets of webhooks, tokens of the hub, passwords of URLs, and what makes a link to S3 work."""

_about: ContextVar[dict[str, str | int]] = ContextVar("about", default={})  # noqa: B039 - it is never changed


def configure_logging(settings: Settings) -> None:
    """Set up the root logger of a process; to be called once, by its entry point."""
    handler = logging.StreamHandler()
    form = JsonLines() if settings.log_format == "json" else logging.Formatter(_TEXT)
    handler.setFormatter(Redacted(form, *secrets_of(settings)))
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    logging.getLogger("botocore").setLevel(logging.WARNING)  # below that it logs the bytes that it sends


@contextmanager
def log_about(**names: str | int) -> Iterator[None]:
    """Name in every JSON line of the block what it is about, such as `request_id` or `job_id`.

    Asynchronous tasks and the server's pool of threads take the names along; a thread of one's own does when
    it runs in a copy of the context.
    """
    before = _about.set(_about.get() | names)
    try:
        yield
    finally:
        _about.reset(before)


class JsonLines(logging.Formatter):
    """One JSON object per record: at, level, logger, message, what it is about, and an error's traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line = _about.get() | {
            "at": rfc3339(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class Redacted(logging.Formatter):
    """What another formatter writes, with every secret hidden: those known by their form, and `secrets`."""

    def __init__(self, form: logging.Formatter, *secrets: str) -> None:
        super().__init__()
        self._form = form
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        """The record without its secrets."""
        return redact(self._form.format(record), *self._secrets)


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """The secrets of these settings that no form betrays."""
    secrets = (settings.hub_token, settings.s3_secret_access_key)
    return tuple(secret.get_secret_value() for secret in secrets if secret)


def redact(text: str, *secrets: str) -> str:
    """The text with every secret hidden: those known by their form, and these."""
    for secret in filter(None, secrets):
        text = text.replace(secret, _HIDDEN)
    for pattern, hidden in _SECRETS:
        text = pattern.sub(hidden, text)
    return text
