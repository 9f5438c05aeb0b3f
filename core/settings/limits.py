"""How much may come in, be had at a time, and be remembered."""

from pydantic import Field
from pydantic_settings import BaseSettings

from core.settings.units import GIB, KIB, MIB


class Limits(BaseSettings):
    """Settings of sizes, quotas and retention."""

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
