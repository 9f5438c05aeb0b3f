"""Tables of jobs, of what happened to them, and of requests that may be repeated."""

from datetime import datetime

from sqlalchemy import Enum, ForeignKey, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.base import Base, Json
from core.jobs.states import Status

_STATUS = Enum(
    Status,
    native_enum=False,
    length=16,
    create_constraint=True,
    name="status",
    values_callable=lambda states: [state.value for state in states],
)
_QUEUED = "status = 'queued'"
_HELD = "status IN ('running', 'pausing', 'canceling')"


class Job(Base):
    """A job; its row is the only truth about it.

    `request` is what the client sent, `spec` the resolved PruneSpec, `plan` what the planner promised.
    `attempt` is the fencing token: it grows with every claim, and every later write of a worker names it.
    `failures` counts attempts lost to failing machines, `capacity_retries` those repeated with smaller
    batches. `version` grows with every write. `model_id` is null when the model is the result of
    `model_job_id`; of `teacher_id` and `teacher_job_id` at most one is there.

    `queue` says who may run it (see `core.queues`), with `gpus` of at least `gpu_memory_gib` each on a worker
    that has any. A higher `priority` goes first; `turn` is when it would have been queued to be as far without
    one, in seconds since 1970 (see `core.jobs.fairness`). `device_seconds` is how long it held devices, as far
    as that is counted: until `charged_at`, while an attempt runs. `traceparent` is the trace of
    the request that made it (W3C Trace Context), where requests are traced.
    """

    __tablename__ = "jobs"
    __table_args__ = (
        Index(
            "ix_jobs_claim",
            "owner_id",
            "queue",
            "turn",
            "id",
            "priority",
            sqlite_where=text(_QUEUED),
            postgresql_where=text(_QUEUED),
        ),
        Index("ix_jobs_lease_until", "lease_until", sqlite_where=text(_HELD), postgresql_where=text(_HELD)),
        Index("ix_jobs_finished_at", "finished_at"),
        Index("ix_jobs_owner_id_id", "owner_id", "id"),
        Index("ix_jobs_owner_id_status_id", "owner_id", "status", "id"),
        Index("ix_jobs_model_id_id", "model_id", "id"),
        Index("ix_jobs_dataset_id", "dataset_id"),
        Index("ix_jobs_model_job_id_id", "model_job_id", "id"),
        Index("ix_jobs_teacher_id", "teacher_id"),
        Index("ix_jobs_teacher_job_id", "teacher_job_id"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    owner_id: Mapped[str] = mapped_column(ForeignKey("owners.id"))
    status: Mapped[Status] = mapped_column(_STATUS, default=Status.QUEUED)
    phase: Mapped[str | None] = mapped_column(String(32))
    progress: Mapped[float] = mapped_column(default=0.0)
    attempt: Mapped[int] = mapped_column(default=0)
    failures: Mapped[int] = mapped_column(default=0)
    capacity_retries: Mapped[int] = mapped_column(default=0)
    priority: Mapped[int] = mapped_column(default=0)
    queue: Mapped[str] = mapped_column(String(32))
    gpus: Mapped[int] = mapped_column(default=0, server_default="0")
    gpu_memory_gib: Mapped[int] = mapped_column(default=0, server_default="0")
    turn: Mapped[float] = mapped_column(default=0.0, server_default="0")
    device_seconds: Mapped[float] = mapped_column(default=0.0, server_default="0")
    charged_at: Mapped[datetime | None]
    request: Mapped[Json]
    spec: Mapped[Json]
    plan: Mapped[Json | None]
    model_id: Mapped[str | None] = mapped_column(String(32))
    dataset_id: Mapped[str] = mapped_column(String(32))
    model_job_id: Mapped[str | None] = mapped_column(String(32))
    teacher_id: Mapped[str | None] = mapped_column(String(32))
    teacher_job_id: Mapped[str | None] = mapped_column(String(32))
    metadata_: Mapped[Json] = mapped_column("metadata", default=dict)
    error: Mapped[Json | None]
    report: Mapped[Json | None]
    metrics: Mapped[Json] = mapped_column(default=dict)
    worker_id: Mapped[str | None] = mapped_column(String(128))
    lease_until: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    run_timeout_seconds: Mapped[float]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]
    version: Mapped[int] = mapped_column(default=1)
    event_seq: Mapped[int] = mapped_column(default=0)
    traceparent: Mapped[str | None] = mapped_column(String(64))


class JobEvent(Base):
    """One thing that happened to a job; `seq` counts from 1, with gaps where events were thinned out.

    `type` is the engine's (phase, progress, metric, warning, checkpoint) or ours (status, attempt_lost).
    """

    __tablename__ = "job_events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    type: Mapped[str] = mapped_column(String(32))
    data: Mapped[Json]
    at: Mapped[datetime]


class JobLog(Base):
    """The last lines that the processes of one attempt wrote; `bytes` counts all that they wrote."""

    __tablename__ = "job_logs"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    attempt: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(Text)
    bytes: Mapped[int]
    at: Mapped[datetime]


class IdempotencyKey(Base):
    """A request that may be repeated, with the answer it got; written in the transaction of its effect."""

    __tablename__ = "idempotency_keys"
    __table_args__ = (Index("ix_idempotency_keys_expires_at", "expires_at"),)

    owner_id: Mapped[str] = mapped_column(ForeignKey("owners.id"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    method: Mapped[str] = mapped_column(String(8))
    route: Mapped[str] = mapped_column(String(255))
    fingerprint: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None]
    response: Mapped[Json | None]
    job_id: Mapped[str | None] = mapped_column(String(32))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
