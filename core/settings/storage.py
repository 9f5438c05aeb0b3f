"""Where things are kept: folders, the database, the broker, S3."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

_S3_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_-][A-Za-z0-9._-]*){0,8}/?")


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _with_driver(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if separator and scheme in ("postgres", "postgresql") else url


def _bucket_and_prefix(url: str) -> str:
    if not _S3_URL.fullmatch(url):
        raise ValueError("write s3://BUCKET or s3://BUCKET/PREFIX, of letters, digits, '.', '_' and '-'")
    return url.rstrip("/")


def _server(url: str) -> str:
    if not re.fullmatch(r"https?://[^/?#@\s]+/?", url):
        raise ValueError("write http(s)://HOST[:PORT], without user, path or query")
    return url.rstrip("/")


Folder = Annotated[Path, AfterValidator(_absolute)]
Server = Annotated[str, AfterValidator(_server)]


class Storage(BaseSettings):
    """Settings of what is kept where."""

    data_dir: Folder = Field(
        default=Path("prunery-data"),
        description="Folder that everything below is kept under unless set apart.",
    )
    database_url: Annotated[str, AfterValidator(_with_driver)] = Field(
        default_factory=lambda data: f"sqlite:///{data['data_dir']}/prunery.db",
        repr=False,
        description="`sqlite:///...` or `postgresql://...`; default: SQLite under the data folder.",
    )
    broker_url: str = Field(
        default="filesystem://",
        repr=False,
        description="Celery broker, `redis://...`; default: files under the data folder.",
    )
    store_dir: Folder = Field(
        default_factory=lambda data: data["data_dir"] / "store",
        description="Folder of models, datasets and results; every API and worker must see the same one.",
    )
    store_url: Annotated[str, AfterValidator(_bucket_and_prefix)] | None = Field(
        default=None,
        description="`s3://BUCKET` or `s3://BUCKET/PREFIX` for models, datasets and results; default: the folder.",
    )
    work_dir: Folder = Field(
        default_factory=lambda data: data["data_dir"] / "work",
        description="Folder of running jobs; if workers share it, one continues what another began.",
    )
    signing_key_file: Folder = Field(
        default_factory=lambda data: data["data_dir"] / "signing-key.pem",
        description="Ed25519 key, in PEM, that the API signs results with; made at its first start. Not for workers.",
    )

    s3_endpoint_url: Server | None = Field(
        default=None, description="Address of a server that speaks S3; default: Amazon's."
    )
    s3_region: str | None = Field(default=None, description="Region of the bucket; default: as AWS's tools.")
    s3_path_style: bool = Field(
        default=False, description="Whether requests name the bucket in their path, not in the host's name."
    )
    s3_access_key_id: str | None = Field(
        default=None,
        description="Key of S3; default: as AWS's tools (variables, profile, the machine's role).",
    )
    s3_secret_access_key: SecretStr | None = Field(default=None, description="What belongs to that key.")
    s3_timeout_seconds: float = Field(
        default=30, gt=0, description="Longest silence of S3 within one request, which is then tried again."
    )
    s3_redirects: bool = Field(
        default=True,
        description="Whether a download is sent on to S3 by a link for five minutes, or goes through the API.",
    )
    s3_download_url: Server | None = Field(
        default=None, description="Address of that server in such links; default: `PRUNERY_S3_ENDPOINT_URL`."
    )

    @model_validator(mode="after")
    def _s3_key_is_whole(self) -> Self:
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise ValueError("s3_access_key_id and s3_secret_access_key need each other")
        return self
