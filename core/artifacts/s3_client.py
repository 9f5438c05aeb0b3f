"""The connection to S3, and what its answers mean to a store."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from core.errors import LedgerError, NotFound, StorageFull, StoreUnavailable
from core.settings import Settings

TRIES = 4
_CONNECT_SECONDS = 3
_MISSING = ("404", "NoSuchKey", "NotFound", "NoSuchUpload")
_FULL = ("XMinioStorageFull", "QuotaExceeded", "InsufficientCapacity")

Reply = dict[str, Any]


def connect(settings: Settings, endpoint: str | None) -> Any:
    """A client of boto3, to be shared by threads; opens no connection. None: Amazon's address.

    What is sent is checked by SHA-256, which we name; the checksums that boto3 would add of itself are unknown
    to many servers. Raises StoreUnavailable for settings that make no client.
    """
    secret = settings.s3_secret_access_key
    config = Config(
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=settings.s3_timeout_seconds,
        retries={"mode": "standard", "total_max_attempts": TRIES},
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if settings.s3_path_style else "auto"},
        max_pool_connections=32,
    )
    with failures_told():
        return boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name=settings.s3_region,
            aws_access_key_id=settings.s3_access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=config,
        )


@contextmanager
def failures_told() -> Iterator[None]:
    """Raise NotFound, StorageFull or StoreUnavailable for what S3 refuses, or when it does not answer."""
    try:
        yield
    except ClientError as error:
        raise _meaning(error) from error
    except BotoCoreError as error:
        raise StoreUnavailable(f"S3 does not answer: {_line(error)}") from error


def error_code(error: ClientError) -> str:
    """The code in S3's answer, such as `NoSuchUpload`."""
    return str(error.response.get("Error", {}).get("Code", ""))


def server_time(reply: Reply) -> datetime:
    """The moment of an answer by the clock of S3, as the dates of its objects are."""
    return parsedate_to_datetime(reply["ResponseMetadata"]["HTTPHeaders"]["date"])


def _meaning(error: ClientError) -> LedgerError:
    code = error_code(error)
    if code in _MISSING:
        return NotFound("The store has no such object.")
    if code in _FULL or error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 507:
        return StorageFull(f"The bucket has no room for this file ({code}).")
    return StoreUnavailable(f"S3 refuses: {_line(error)}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
