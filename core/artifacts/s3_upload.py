"""Sending an object to S3: whole in one request when it is small, in parts when not; never half of it."""

import base64
import hashlib
from collections.abc import Iterator
from contextlib import suppress
from typing import IO, Any

from botocore.exceptions import BotoCoreError, ClientError

from core.artifacts.s3_client import error_code
from core.artifacts.store import Stored
from core.errors import StoreUnavailable

PART_BYTES = 8 << 20
_MOST_PARTS = 10_000


def send(client: Any, bucket: str, key: str, file: IO[bytes], stored: Stored) -> None:
    """Send a file from its beginning; raises what boto3 raises, and StoreUnavailable when it has other bytes.

    The server checks each request against its SHA-256, and the whole is hashed once more on its way: the
    object appears under its name only when everything that was sent has that hash.
    """
    file.seek(0)
    if stored.bytes <= PART_BYTES:
        content = file.read(PART_BYTES + 1)
        _require(hashlib.sha256(content), stored)
        client.put_object(Bucket=bucket, Key=key, Body=content, ChecksumSHA256=_checksum(content))
    else:
        _Multipart(client, bucket, key).send(file, stored)


class _Multipart:
    """One upload in parts, aborted when anything goes wrong."""

    def __init__(self, client: Any, bucket: str, key: str) -> None:
        self._client = client
        self._place = {"Bucket": bucket, "Key": key}

    def send(self, file: IO[bytes], stored: Stored) -> None:
        begun = self._client.create_multipart_upload(**self._place, ChecksumAlgorithm="SHA256")
        upload = self._place | {"UploadId": begun["UploadId"]}
        try:
            parts = list(self._send_parts(upload, file, stored))
            self._complete(upload, parts, stored)
        except BaseException:
            with suppress(BotoCoreError, ClientError):  # the sweep aborts what this could not
                self._client.abort_multipart_upload(**upload)
            raise

    def _send_parts(
        self, upload: dict[str, Any], file: IO[bytes], stored: Stored
    ) -> Iterator[dict[str, Any]]:
        digest = hashlib.sha256()
        size = max(PART_BYTES, -(-stored.bytes // _MOST_PARTS))
        for number, chunk in enumerate(iter(lambda: file.read(size), b""), start=1):
            digest.update(chunk)
            checksum = _checksum(chunk)
            sent = self._client.upload_part(**upload, PartNumber=number, Body=chunk, ChecksumSHA256=checksum)
            yield {"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": checksum}
        _require(digest, stored)

    def _complete(self, upload: dict[str, Any], parts: list[dict[str, Any]], stored: Stored) -> None:
        try:
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except ClientError as error:
            # A repetition after an answer that was lost: the first one has ended the upload.
            if error_code(error) != "NoSuchUpload" or not self._is_there(stored):
                raise

    def _is_there(self, stored: Stored) -> bool:
        return bool(self._client.head_object(**self._place)["ContentLength"] == stored.bytes)


def _checksum(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode("ascii")


def _require(digest: Any, stored: Stored) -> None:
    if digest.hexdigest() != stored.sha256:
        raise StoreUnavailable("The bytes changed while they were sent to S3.")
