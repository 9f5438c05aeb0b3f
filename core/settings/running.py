"""How jobs run: workers, leases, deadlines, retries."""

import os
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from core.settings.units import MIB


class Running(BaseSettings):
    """Settings of workers and of the jobs in their hands."""

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
