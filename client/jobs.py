"""The client's methods for jobs."""

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any

from client import events
from client.calls import Calls, pages
from client.errors import WaitTimeout
from client.plans import JobPlan
from client.replies import Event, Job, Log, Metrics, Proposal

Reference = str | Mapping[str, Any]
"""An id (`mdl_...`, `dst_...`), `{"hub": ..., "revision": ...}`, or for a model `{"job": "job_..."}`."""


class JobCalls(Calls):
    """Create, show, list, follow, cancel and delete jobs."""

    def submit(
        self,
        model: Reference,
        dataset: Reference,
        target_ratio: float | None = None,
        *,
        idempotency_key: str | None = None,
        **fields: Any,
    ) -> Job:
        """Create a job; `fields` are those of POST /v1/jobs, such as granularity, method, teacher, finetune, seed.

        Either `target_ratio` is given, or `max_quality_drop` among the fields.

        The same `idempotency_key` with the same request gives the same job; without one, a fresh key still
        keeps a retry after a lost answer from making two.
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        body = _body(model, dataset, target_ratio, fields)
        return Job.model_validate_json(
            self._transport.request("POST", "/v1/jobs", json=body, headers=headers).content
        )

    def validate(
        self, model: Reference, dataset: Reference, target_ratio: float | None = None, **fields: Any
    ) -> Proposal:
        """What `submit` would do with the same arguments: the resolved choice and the plan, without a job."""
        body = _body(model, dataset, target_ratio, fields)
        reply = self._transport.request("POST", "/v1/jobs", json=body, params={"validate_only": "true"})
        return Proposal.model_validate_json(reply.content)

    def plan(
        self, model: Reference, dataset: Reference, target_ratio: float | None = None, **fields: Any
    ) -> JobPlan:
        """What a job of the same arguments would do and need, without a job; for a ratio out of reach the nearest."""
        body = _body(model, dataset, target_ratio, fields)
        reply = self._transport.request("POST", "/v1/jobs/plan", json=body)
        return JobPlan.model_validate_json(reply.content)

    def job(self, job_id: str) -> Job:
        """One job as it is now."""
        return Job.model_validate_json(self._transport.request("GET", f"/v1/jobs/{job_id}").content)

    def jobs(self, *, status: str | None = None, model: str | None = None) -> Iterator[Job]:
        """Every job, newest first; pages are fetched as they are needed."""
        filters = {name: value for name, value in (("status", status), ("model", model)) if value is not None}
        return pages(self._transport, "/v1/jobs", Job, filters)

    def cancel(self, job_id: str) -> Job:
        """Ask for the end of a job; a running one is `canceling` until its worker has stopped."""
        return self._post(job_id, "cancel")

    def pause(self, job_id: str) -> Job:
        """Let a job rest; a running one is `pausing` until its worker has saved a checkpoint."""
        return self._post(job_id, "pause")

    def resume(self, job_id: str) -> Job:
        """Let a paused job go on from its last checkpoint."""
        return self._post(job_id, "resume")

    def delete_job(self, job_id: str) -> None:
        """Delete a job that is over, with its artifacts."""
        self._transport.request("DELETE", f"/v1/jobs/{job_id}")

    def metrics(self, job_id: str) -> Metrics:
        """Every value that a job has measured so far."""
        return Metrics.model_validate_json(
            self._transport.request("GET", f"/v1/jobs/{job_id}/metrics").content
        )

    def log(self, job_id: str, *, attempt: int | None = None, max_bytes: int = 65_536) -> Log:
        """The last lines that a job's processes wrote, at most `max_bytes`, in its latest or the given attempt."""
        asked = {"bytes": max_bytes} | ({} if attempt is None else {"attempt": attempt})
        reply = self._transport.request("GET", f"/v1/jobs/{job_id}/log", params=asked)
        about = {name: reply.headers[f"X-Log-{name}"] for name in ("attempt", "bytes")}
        return Log.model_validate({"text": reply.text, **about})

    def watch(self, job_id: str, *, after_seq: int = 0, patience: float = 60.0) -> Iterator[Event]:
        """Every event of a job from `after_seq` on, once each, until the job is over.

        Lost connections are opened again for up to `patience` seconds; see `client.events`.
        """
        return events.follow(
            self._transport,
            job_id,
            after_seq=after_seq,
            over=lambda: self.job(job_id).over,
            patience=patience,
        )

    def wait(self, job_id: str, *, timeout: float | None = None, poll_seconds: float = 1.0) -> Job:
        """Block until the job is over, whatever its end; raises WaitTimeout after `timeout` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not (job := self.job(job_id)).over:
            if deadline is not None and time.monotonic() + poll_seconds > deadline:
                raise WaitTimeout(f"{job_id} is still {job.status} after {timeout:.0f} s")
            time.sleep(poll_seconds)
        return job

    def _post(self, job_id: str, action: str) -> Job:
        reply = self._transport.request("POST", f"/v1/jobs/{job_id}/{action}")
        return Job.model_validate_json(reply.content)


def _body(
    model: Reference, dataset: Reference, target_ratio: float | None, fields: Mapping[str, Any]
) -> dict[str, Any]:
    body = {"model": model, "dataset": dataset, **fields}
    return body if target_ratio is None else body | {"target_ratio": target_ratio}
