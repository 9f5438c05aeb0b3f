"""Every setting of the service, read from environment variables that begin with `PRUNERY_`.

`python -m core.settings` checks the table docs/settings.md against this class; `--write` writes it.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

KIB, MIB, GIB = 2**10, 2**20, 2**30

SECRET_FIELDS = ("database_url", "broker_url", "hub_token")
"""Fields that may hold a password; each can be read from a file named by `PRUNERY_<FIELD>_FILE` instead."""


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _with_driver(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if separator and scheme in ("postgres", "postgresql") else url


Folder = Annotated[Path, AfterValidator(_absolute)]


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
    work_dir: Folder = Field(
        default_factory=lambda data: data["data_dir"] / "work",
        description="Folder of running jobs; if workers share it, one continues what another began.",
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

    hub_enabled: bool = Field(
        default=True, description="Whether requests may name models and datasets of the hub."
    )
    hub_endpoint: str = Field(default="https://huggingface.co", description="Address of the hub.")
    hub_token: SecretStr | None = Field(
        default=None, description="Token for the hub's private and gated repositories."
    )

    sweep_after_hours: float = Field(
        default=24,
        gt=0,
        description="Age at which unfinished uploads, unnamed files and dead workers are deleted.",
    )
    idempotency_hours: float = Field(
        default=24, ge=24, description="How long an Idempotency-Key is remembered."
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


def table() -> str:
    """The text of docs/settings.md."""
    rows = [
        f"| `PRUNERY_{name.upper()}` | {_default(field)} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    files = ", ".join(f"`PRUNERY_{name.upper()}`" for name in SECRET_FIELDS)
    return "\n".join(
        (
            "# Settings",
            "",
            "Made by `python -m core.settings --write`. Every setting is an environment variable.",
            f"{files}\nmay hold a password: the same names with `_FILE` added read it from a file instead.",
            "",
            "| variable | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
        )
    )


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "derived"
    return "none" if field.default is None else f"`{field.default}`"


def main(arguments: list[str]) -> int:
    """Write docs/settings.md, or say by the exit status whether it is what it would be."""
    path = Path(__file__).parents[1] / "docs" / "settings.md"
    if "--write" in arguments:
        path.write_text(table(), "utf-8")
        return 0
    if path.is_file() and path.read_text("utf-8") == table():
        return 0
    sys.stderr.write("docs/settings.md is stale: run python -m core.settings --write\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
