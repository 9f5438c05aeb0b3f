"""A store in a bucket of S3, for any number of machines at the same time."""

import hashlib
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from io import BytesIO
from pathlib import Path
from secrets import token_hex
from typing import IO, Any, BinaryIO

from botocore.exceptions import ClientError

from core.artifacts.local import full_disk_reported
from core.artifacts.s3_client import Reply, connect, error_code, failures_told, server_time
from core.artifacts.s3_reader import S3Reader, buffered
from core.artifacts.s3_upload import PART_BYTES, send
from core.artifacts.store import Stored, is_hash, require_hash
from core.errors import NotFound, TooLarge
from core.settings import Settings

LINK_SECONDS = 300
_DELETION_SECONDS = 300.0
"""After so long, whoever announced a deletion is dead: its few requests give up much earlier."""
_LOOK_SECONDS = 0.2


class S3Store:
    """Objects under `{prefix}sha256/ab/abcd...`, as `LocalStore` has them.

    S3 cannot rename: what has no hash yet is kept in a nameless file under `scratch`, then sent whole. A
    deletion announces itself under `{prefix}deleting/` before it looks at the object's age, and a writer looks
    there after it has sent: so a sweep never takes away what was put a moment ago.
    """

    def __init__(self, client: Any, bucket: str, prefix: str, scratch: Path, linker: Any | None) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        self._scratch = scratch
        self._linker = linker

    @classmethod
    def from_settings(cls, settings: Settings) -> "S3Store":
        """The store at PRUNERY_STORE_URL; opens no connection. Raises StoreUnavailable."""
        bucket, _, prefix = str(settings.store_url).removeprefix("s3://").partition("/")
        endpoint, outside = settings.s3_endpoint_url, settings.s3_download_url
        client = connect(settings, endpoint)
        linker = client if outside in (None, endpoint) else connect(settings, outside)
        return cls(
            client,
            bucket,
            f"{prefix}/" if prefix else "",
            settings.work_dir / "incoming",
            linker if settings.s3_redirects else None,
        )

    @contextmanager
    def writer(self, *, max_bytes: int | None = None) -> Iterator["S3Writer"]:
        """A writer; what is not published when the block ends leaves nothing behind."""
        self._scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = tempfile.SpooledTemporaryFile(PART_BYTES, dir=str(self._scratch))  # noqa: SIM115 - closed below
        try:
            yield S3Writer(self, file, max_bytes)
        finally:
            with suppress(OSError):  # a full disk complains once more about what it did not take
                file.close()

    def put(self, chunks: Iterable[bytes], *, max_bytes: int | None = None) -> Stored:
        """Store bytes as they come; raises StorageFull or TooLarge, with nothing left over."""
        with self.writer(max_bytes=max_bytes) as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.publish()

    def put_file(self, path: Path) -> Stored:
        """Store a copy of a file; raises StorageFull with nothing left over."""
        with path.open("rb") as file:
            stored = Stored(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)
            self.publish(file, stored)
        return stored

    def open(self, sha256: str, start: int = 0) -> BinaryIO:
        """The object from byte `start`; raises NotFound."""
        key = self._key(sha256)
        return buffered(S3Reader(lambda position: self._get(key, position), start))

    def path(self, sha256: str) -> None:
        """None: there are no files."""
        require_hash(sha256)

    def download_url(self, sha256: str, *, filename: str, media_type: str) -> str | None:
        """A link for five minutes, where the settings allow them."""
        if self._linker is None:
            return None
        parameters = {
            "Bucket": self._bucket,
            "Key": self._key(sha256),
            "ResponseContentDisposition": f'attachment; filename="{filename}"',
            "ResponseContentType": media_type,
        }
        with failures_told():
            return str(self._linker.generate_presigned_url("get_object", parameters, LINK_SECONDS))

    def exists(self, sha256: str) -> bool:
        """Whether the object is there."""
        key = self._key(sha256)
        try:
            with failures_told():
                self._client.head_object(Bucket=self._bucket, Key=key)
        except NotFound:
            return False
        return True

    def objects(self) -> Iterator[str]:
        """The hash of every object."""
        names = (str(entry["Key"]).rpartition("/")[2] for entry, _ in self._list("sha256/"))
        return (name for name in names if is_hash(name))

    def discard_unpublished(self, *, older_seconds: float) -> int:
        """Abort the uploads of writers that died, forget the deletions of sweeps that did; their number."""
        notices = [entry["Key"] for entry, age in self._list("deleting/") if age >= older_seconds]
        uploads = [upload for upload, age in self._unfinished() if age >= older_seconds]
        for notice in notices:
            self._delete(notice)
        for upload in uploads:
            self._abort(upload)
        return len(notices) + len(uploads)

    def delete(self, sha256: str, *, unused_seconds: float = 0) -> bool:
        """Delete an object unless it was put less than `unused_seconds` ago; says whether it was deleted."""
        key, notice = self._key(sha256), f"{self._prefix}deleting/{sha256}/{token_hex(8)}"
        # What fails in between leaves the notice: whether the object was deleted is not known then.
        self._mark(notice)
        old = [entry for entry, age in self._list(f"sha256/{sha256[:2]}/{sha256}") if age >= unused_seconds]
        if old:
            self._delete(key)
        self._delete(notice)
        return bool(old)

    def check(self) -> None:
        """Raise StorageFull or StoreUnavailable when the bucket cannot be written to."""
        key = f"{self._prefix}check/{token_hex(8)}"
        self._mark(key)
        self._delete(key)

    def publish(self, file: IO[bytes], stored: Stored) -> None:
        """Send a whole file under its name; only writers call this."""
        key, notices = self._key(stored.sha256), f"deleting/{stored.sha256}/"
        while True:
            with failures_told():
                send(self._client, self._bucket, key, file, stored)
            while any(age < _DELETION_SECONDS for _, age in self._list(notices)):
                time.sleep(_LOOK_SECONDS)
            if self.exists(stored.sha256):
                return

    def _key(self, sha256: str) -> str:
        return f"{self._prefix}sha256/{require_hash(sha256)[:2]}/{sha256}"

    def _get(self, key: str, position: int) -> IO[bytes]:
        with failures_told():
            try:
                span = {"Range": f"bytes={position}-"} if position else {}
                body: IO[bytes] = self._client.get_object(Bucket=self._bucket, Key=key, **span)["Body"]
            except ClientError as error:
                if error_code(error) != "InvalidRange":
                    raise
                return BytesIO()  # there is nothing behind the end
            return body

    def _list(self, folder: str) -> Iterator[tuple[Reply, float]]:
        """The entries under a folder, and how many seconds ago each was put."""
        pages = self._client.get_paginator("list_objects_v2")
        with failures_told():
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + folder):
                for entry in page.get("Contents", ()):
                    yield entry, _seconds(page, entry["LastModified"])

    def _unfinished(self) -> Iterator[tuple[Reply, float]]:
        """The uploads in parts that nobody has completed, and how many seconds ago each was begun."""
        pages = self._client.get_paginator("list_multipart_uploads")
        with suppress(NotFound), failures_told():  # some servers' word for none
            for page in pages.paginate(Bucket=self._bucket, Prefix=f"{self._prefix}sha256/"):
                for upload in page.get("Uploads", ()):
                    yield upload, _seconds(page, upload["Initiated"])

    def _mark(self, key: str) -> None:
        with failures_told():
            self._client.put_object(Bucket=self._bucket, Key=key, Body=b"")

    def _delete(self, key: str) -> None:
        with failures_told():
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def _abort(self, upload: Reply) -> None:
        with suppress(NotFound), failures_told():  # completed or aborted meanwhile
            self._client.abort_multipart_upload(
                Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
            )


class S3Writer:
    """An object on its way into an `S3Store`."""

    def __init__(self, store: S3Store, file: IO[bytes], max_bytes: int | None) -> None:
        self._store = store
        self._file = file
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, chunk: bytes) -> None:
        """Add bytes; raises StorageFull when the scratch folder is full, or TooLarge."""
        self._size += len(chunk)
        if self._max_bytes is not None and self._size > self._max_bytes:
            raise TooLarge(f"The file is larger than {self._max_bytes:,} bytes.")
        self._digest.update(chunk)
        with full_disk_reported():
            self._file.write(chunk)

    def publish(self) -> Stored:
        """Make the object exist; raises StorageFull."""
        stored = Stored(self._digest.hexdigest(), self._size)
        with full_disk_reported():
            self._file.flush()
        self._store.publish(self._file, stored)
        return stored


def _seconds(reply: Reply, since: datetime) -> float:
    return max(0.0, (server_time(reply) - since).total_seconds())
