"""Every setting of the service, read from environment variables that begin with `PRUNERY_`.

`python -m core.settings` checks the table docs/settings.md against this class; `--write` writes it.
"""

import os
import re
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

KIB, MIB, GIB = 2**10, 2**20, 2**30

SECRET_FIELDS = ("database_url", "broker_url", "hub_token", "s3_secret_access_key")
"""Fields that may hold a password; each can be read from a file named by `PRUNERY_<FIELD>_FILE` instead."""

_S3_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_-][A-Za-z0-9._-]*){0,8}/?")


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _with_driver(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if separator and scheme in ("postgres", "postgresql") else url


def _networks(text: str | None) -> str | None:
    for network in (text or "").split(","):
        if network.strip():
            ip_network(network.strip())
    return text


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


class Settings(BaseSettings):
    """What a person can set, with the default of each; frozen once made."""

    model_config = SettingsConfigDict(env_prefix="PRUNERY_", frozen=True, validate_default=True)

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

    host: str = Field(default="127.0.0.1", description="Address that the API listens on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port that the API listens on.")
    public_url: str | None = Field(
        default=None, description="Base of the links in replies; default: as the client asked."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severe message that is logged."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="One line of text, or one JSON object, per log record."
    )
    metrics_public: bool = Field(default=False, description="Whether `GET /metrics` needs no API key.")

    worker_slots: int = Field(
        default=1, ge=1, le=64, description="Jobs that one worker runs at the same time."
    )
    worker_threads: int | None = Field(
        default=None,
        ge=1,
        description="Threads of one job; default: the machine's cores divided by the slots.",
    )
    worker_queue: Literal["cpu", "gpu"] = Field(
        default="cpu",
        description="Kind of a worker: `cpu`, or `gpu`, which also takes jobs that ask for no GPU.",
    )
    child_memory_bytes: int | None = Field(
        default=None, ge=256 * MIB, description="Address space of a job's process; default: not limited."
    )

    lease_seconds: float = Field(
        default=60,
        gt=0,
        description="A worker that is silent for this long has lost its job to another attempt.",
    )
    heartbeat_seconds: float = Field(
        default=15, gt=0, description="How often a worker renews its lease; less than a third of the lease."
    )
    cancel_grace_seconds: float = Field(
        default=10, ge=0, description="Time a job has to stop by itself before its process is killed."
    )
    run_timeout_seconds: float = Field(
        default=86_400, gt=0, description="Longest run of one attempt unless the request says less."
    )
    stall_timeout_seconds: float = Field(
        default=900, gt=0, description="An attempt that reports no progress for this long is stopped."
    )
    queue_timeout_seconds: float | None = Field(
        default=None, gt=0, description="A job that waits longer than this fails; default: it waits."
    )
    max_failures: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Attempts that may be lost to failing machines before the job fails.",
    )
    retry_backoff_seconds: float = Field(
        default=10, ge=0, description="Base of the random wait before the next attempt, doubled each time."
    )
    poll_seconds: float = Field(
        default=1, gt=0, description="How often the reconciler looks for lost jobs and unheard rings."
    )

    max_body_bytes: int = Field(default=MIB, ge=KIB, description="Largest JSON body of a request.")
    max_file_bytes: int = Field(default=5 * GIB, ge=KIB, description="Largest file of a model.")
    max_model_bytes: int = Field(default=20 * GIB, ge=KIB, description="Largest model, all files together.")
    max_dataset_bytes: int = Field(
        default=2 * GIB, ge=KIB, description="Largest dataset, all files together."
    )
    max_dataset_rows: int = Field(default=5_000_000, ge=2, description="Most rows of one data file.")
    upload_part_bytes: int = Field(
        default=16 * MIB,
        ge=64 * KIB,
        description="Size of each part but the last of a file that comes in parts.",
    )

    max_queued_jobs: int = Field(default=1000, ge=0, description="Most jobs that an owner may have waiting.")
    max_running_jobs: int | None = Field(
        default=None, ge=0, description="Most jobs of an owner that run at a time; others wait; default: all."
    )
    max_stored_bytes: int = Field(
        default=200 * GIB, ge=0, description="Most bytes of an owner's models, datasets and results."
    )
    max_device_seconds: int | None = Field(
        default=None,
        ge=0,
        description="Most seconds times devices of an owner's jobs from midnight to midnight UTC; default: any.",
    )
    requests_per_minute: int = Field(
        default=1200, ge=0, description="Requests that one API key may make in a minute; 0: any number."
    )

    hub_enabled: bool = Field(
        default=True, description="Whether requests may name models and datasets of the hub."
    )
    hub_endpoint: str = Field(default="https://huggingface.co", description="Address of the hub.")
    hub_token: SecretStr | None = Field(
        default=None, description="Token for the hub's private and gated repositories."
    )

    webhook_allow_http: bool = Field(
        default=False, description="Whether webhooks may have `http://` addresses; for development."
    )
    webhook_allow_networks: Annotated[str | None, AfterValidator(_networks)] = Field(
        default=None,
        description="Networks that webhooks may reach beside public addresses, such as `10.1.0.0/16,fd00::/8`.",
    )
    webhook_retry_seconds: float = Field(
        default=10,
        gt=0,
        description="Wait after the first failure of a delivery, tripled each time up to 6 hours.",
    )
    webhook_max_attempts: int = Field(
        default=12, ge=1, le=30, description="Attempts of one delivery before it has failed."
    )
    webhook_disable_after_hours: float = Field(
        default=72, gt=0, description="A webhook of which every attempt failed for this long is switched off."
    )
    webhook_retention_days: float = Field(
        default=14, gt=0, description="How long deliveries that are over can be looked up and sent again."
    )

    sweep_after_hours: float = Field(
        default=24,
        gt=0,
        description="Age at which unfinished uploads, unnamed files and dead workers are deleted.",
    )
    idempotency_hours: float = Field(
        default=24, ge=24, description="How long an Idempotency-Key is remembered."
    )
    audit_days: float = Field(
        default=365, gt=0, description="How long the audit log remembers who changed what."
    )
    events_per_job: int = Field(
        default=10_000, ge=100, description="Events kept of one job; progress is thinned out first."
    )
    job_log_bytes: int = Field(
        default=256 * KIB,
        ge=4 * KIB,
        le=MIB,
        description="Last bytes kept of what the processes of one attempt write; each job keeps its last 5 attempts'.",
    )

    @model_validator(mode="after")
    def _heartbeat_fits_lease(self) -> Self:
        if self.heartbeat_seconds >= self.lease_seconds / 3:
            raise ValueError(
                "heartbeat_seconds must be less than a third of lease_seconds, so that two may be lost"
            )
        return self

    @model_validator(mode="after")
    def _s3_key_is_whole(self) -> Self:
        if (self.s3_access_key_id is None) != (self.s3_secret_access_key is None):
            raise ValueError("s3_access_key_id and s3_secret_access_key need each other")
        return self

    @property
    def threads_per_slot(self) -> int:
        """Threads that one job computes with."""
        return self.worker_threads or max(1, (os.cpu_count() or 1) // self.worker_slots)


def settings_from_env() -> Settings:
    """Read the environment; a `PRUNERY_<FIELD>_FILE` variable supplies a secret field from a file."""
    secrets: dict[str, Any] = {}
    for field in SECRET_FIELDS:
        if path := os.environ.get(f"PRUNERY_{field.upper()}_FILE"):
            secrets[field] = Path(path).read_text("utf-8").strip()
    return Settings(**secrets)


if __name__ == "__main__":
    from core.settings_table import main

    sys.exit(main(sys.argv[1:]))
