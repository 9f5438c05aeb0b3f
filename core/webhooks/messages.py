"""What webhooks are told: the types of messages, and their content."""

from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping

from core.clock import rfc3339
from core.db.base import Json
from core.jobs.states import Status
from core.jobs.tables import Job, JobEvent

PING = "webhook.ping"
JOB_STATES = tuple(f"job.{status}" for status in Status)
EVENT_TYPES = (*JOB_STATES, "job.attempt_lost", "job.phase", "job.warning")
"""What can be subscribed to. Progress, metrics and checkpoints are too many to push; the stream has them."""

JOB_COLUMNS = (
    Job.owner_id,
    Job.id,
    Job.status,
    Job.phase,
    Job.progress,
    Job.attempt,
    Job.request,
    Job.spec,
    Job.metadata_,
    Job.error,
    Job.report,
    Job.created_at,
    Job.started_at,
    Job.finished_at,
)
"""What a message about a job is made of."""


def type_of(event: JobEvent) -> str | None:
    """The type of the message about an event of a job, such as `job.succeeded`; None where there is none."""
    name = event.data["status"] if event.type == "status" else event.type
    return f"job.{name}" if f"job.{name}" in EVENT_TYPES else None


def job_message(kind: str, job: RowMapping, event: JobEvent) -> Json:
    """The message about an event; `job` holds JOB_COLUMNS. Small, and without anything secret."""
    asked, spec = job["request"], job["spec"]
    summary = {
        "id": job["id"],
        "status": job["status"],
        "phase": job["phase"],
        "progress": job["progress"],
        "attempt": job["attempt"],
        **{name: asked.get(name) for name in ("model", "teacher", "dataset")},
        **{name: spec.get(name) for name in ("method", "task", "granularity")},
        **{name: spec.get(name) for name in ("target_ratio", "max_quality_drop", "target_measure")},
        "metadata": job["metadata_"],
        "error": job["error"],
        "target_missed": None if job["report"] is None else job["report"].get("target_missed", False),
        **{name: _moment(job[name]) for name in ("created_at", "started_at", "finished_at")},
    }
    told = {"seq": event.seq, "type": event.type, "data": event.data}
    return message(kind, event.at, {"job": summary, "event": told})


def message(kind: str, at: datetime, data: dict[str, Any]) -> Json:
    """A message in the form of Standard Webhooks."""
    return {"type": kind, "timestamp": rfc3339(at), "data": data}


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
