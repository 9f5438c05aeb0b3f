"""Rows of the ledger as clients see them."""

from collections.abc import Mapping
from typing import Any

from app.jobs.schemas import ArtifactView, Choice, ErrorView, EventView, JobView, Urls, WarningView
from core.artifacts.tables import Artifact
from core.jobs.tables import Job, JobEvent
from pruning.spec import PruneSpec


def choice(spec: PruneSpec, plan: Mapping[str, Any] | None) -> Choice:
    """What a request came to."""
    return Choice.model_validate(_choice(spec.model_dump(mode="json"), plan))


def job_view(job: Job, position: int | None, base: str) -> JobView:
    """A job; `base` is the address of the service."""
    # A job whose dataset had to be fetched first was planned by its worker: the report says what it came to.
    report = job.report or {}
    return JobView.model_validate(
        _choice(report.get("spec", job.spec), job.plan or report.get("plan"))
        | {
            "id": job.id,
            "status": job.status,
            "phase": job.phase,
            "progress": job.progress,
            "queue_position": position,
            "attempt": job.attempt,
            "model": job.request["model"],
            "teacher": job.request.get("teacher"),
            "dataset": job.request["dataset"],
            "metrics": job.metrics,
            "error": None if job.error is None else ErrorView.model_validate(job.error),
            "target_missed": None if job.report is None else job.report.get("target_missed", False),
            "report": job.report,
            "priority": job.priority,
            "timeout_s": job.run_timeout_seconds,
            "metadata": job.metadata_,
            "created_at": job.created_at,
            "started_at": job.started_at,
            "finished_at": job.finished_at,
            "urls": urls(base, job.id),
        }
    )


def urls(base: str, job_id: str) -> Urls:
    """Where the parts of a job are."""
    here = f"{base}/v1/jobs/{job_id}"
    parts = {
        name: f"{here}/{name}" for name in ("cancel", "events", "metrics", "log", "artifacts", "archive")
    }
    return Urls(self=here, **parts)


def event_view(event: JobEvent) -> EventView:
    """An event."""
    return EventView(seq=event.seq, type=event.type, data=event.data, at=event.at)


def artifact_view(artifact: Artifact, base: str) -> ArtifactView:
    """A file of a result."""
    return ArtifactView(
        id=artifact.id,
        name=artifact.name,
        bytes=artifact.bytes,
        sha256=artifact.sha256,
        media_type=artifact.media_type,
        url=f"{base}/v1/artifacts/{artifact.id}/content",
    )


def _choice(spec: Mapping[str, Any], plan: Mapping[str, Any] | None) -> dict[str, Any]:
    warnings = [WarningView.model_validate(each) for each in (plan or {}).get("warnings", [])]
    return {
        "method": spec["method"],
        "task": spec["task"],
        "granularity": spec["granularity"],
        "target_ratio": spec["target_ratio"],
        "max_quality_drop": spec.get("max_quality_drop"),
        "target_measure": spec["target_measure"],
        "spec": spec,
        "plan": plan,
        "warnings": warnings,
    }
