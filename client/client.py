"""`PruneryClient`: the service's routes as methods."""

import os
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from client import downloads, events, pages, uploads
from client.bodies import Reference, job_body
from client.errors import WaitTimeout
from client.plans import JobPlan
from client.replies import (
    Artifact,
    Dataset,
    Event,
    Job,
    Log,
    MethodInfo,
    Metrics,
    Model,
    Proposal,
    Version,
    Worker,
)
from client.transport import Transport


class PruneryClient:
    """A connection to one service; use it as a context manager, or call `close`.

    Without arguments it reads PRUNERY_URL (default http://127.0.0.1:8000) and PRUNERY_API_KEY. Every method
    raises `ApiProblem` when the service refuses and `Unreachable` when it does not answer, also after
    `retries` retries.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 4,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._transport = Transport(
            base_url or os.environ.get("PRUNERY_URL", "http://127.0.0.1:8000"),
            api_key or os.environ.get("PRUNERY_API_KEY", ""),
            timeout=timeout,
            retries=retries,
            transport=transport,
        )

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What the service is and can do

    def version(self) -> Version:
        """What runs behind the address."""
        return Version.model_validate_json(self._transport.request("GET", "/v1/version").content)

    def methods(self) -> tuple[MethodInfo, ...]:
        """Every pruning method with the JSON schema of its settings."""
        return tuple(pages.items(self._transport, "/v1/methods", MethodInfo))

    def workers(self) -> tuple[Worker, ...]:
        """Every worker process, oldest first, with its last sign of life."""
        return tuple(pages.items(self._transport, "/v1/workers", Worker))

    # Models and datasets

    def upload_model(
        self, folder: Path, *, name: str | None = None, sent: uploads.Sent | None = None
    ) -> Model:
        """Upload a Hugging Face folder: its weights (safetensors), configuration and tokenizer.

        Other files stay behind; `uploads.model_files(folder)` says which. Raises LocalFileProblem for
        an unusable folder.
        """
        files, _ = uploads.model_files(folder)
        reply = uploads.upload(self._transport, "models", files, name or folder.resolve().name, sent)
        return Model.model_validate_json(reply.content)

    def upload_dataset(
        self, source: Path | Mapping[str, Path], *, name: str | None = None, sent: uploads.Sent | None = None
    ) -> Dataset:
        """Upload one file (the train split), a folder with train/validation/test files, or {split: file}."""
        files, _ = uploads.dataset_files(source)
        name = name or (source.resolve().stem if isinstance(source, Path) else "dataset")
        return Dataset.model_validate_json(
            uploads.upload(self._transport, "datasets", files, name, sent).content
        )

    def models(self) -> Iterator[Model]:
        """Every model, newest first."""
        return pages.items(self._transport, "/v1/models", Model)

    def datasets(self) -> Iterator[Dataset]:
        """Every dataset, newest first."""
        return pages.items(self._transport, "/v1/datasets", Dataset)

    def model(self, model_id: str) -> Model:
        """One model."""
        return Model.model_validate_json(self._transport.request("GET", f"/v1/models/{model_id}").content)

    def dataset(self, dataset_id: str) -> Dataset:
        """One dataset."""
        return Dataset.model_validate_json(
            self._transport.request("GET", f"/v1/datasets/{dataset_id}").content
        )

    def delete_model(self, model_id: str) -> None:
        """Delete a model that no unfinished job uses."""
        self._transport.request("DELETE", f"/v1/models/{model_id}")

    def delete_dataset(self, dataset_id: str) -> None:
        """Delete a dataset that no unfinished job uses."""
        self._transport.request("DELETE", f"/v1/datasets/{dataset_id}")

    # Jobs

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
        body = job_body(model, dataset, target_ratio, fields)
        return Job.model_validate_json(
            self._transport.request("POST", "/v1/jobs", json=body, headers=headers).content
        )

    def validate(
        self, model: Reference, dataset: Reference, target_ratio: float | None = None, **fields: Any
    ) -> Proposal:
        """What `submit` would do with the same arguments: the resolved choice and the plan, without a job."""
        body = job_body(model, dataset, target_ratio, fields)
        reply = self._transport.request("POST", "/v1/jobs", json=body, params={"validate_only": "true"})
        return Proposal.model_validate_json(reply.content)

    def plan(
        self, model: Reference, dataset: Reference, target_ratio: float | None = None, **fields: Any
    ) -> JobPlan:
        """What a job of the same arguments would do and need, without a job; for a ratio out of reach the nearest."""
        body = job_body(model, dataset, target_ratio, fields)
        return JobPlan.model_validate_json(
            self._transport.request("POST", "/v1/jobs/plan", json=body).content
        )

    def job(self, job_id: str) -> Job:
        """One job as it is now."""
        return Job.model_validate_json(self._transport.request("GET", f"/v1/jobs/{job_id}").content)

    def jobs(self, *, status: str | None = None, model: str | None = None) -> Iterator[Job]:
        """Every job, newest first; pages are fetched as they are needed."""
        filters = {name: value for name, value in (("status", status), ("model", model)) if value is not None}
        return pages.items(self._transport, "/v1/jobs", Job, filters)

    def cancel(self, job_id: str) -> Job:
        """Ask for the end of a job; a running one is `canceling` until its worker has stopped."""
        return Job.model_validate_json(self._transport.request("POST", f"/v1/jobs/{job_id}/cancel").content)

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

    # Results

    def artifacts(self, job_id: str) -> tuple[Artifact, ...]:
        """The manifest of a succeeded job."""
        return tuple(pages.items(self._transport, f"/v1/jobs/{job_id}/artifacts", Artifact))

    def download(
        self, job_id: str, folder: Path, *, received: downloads.Received | None = None
    ) -> tuple[Path, ...]:
        """Bring every artifact of a job under `folder`; files that are already there and equal are kept.

        A broken download goes on where it stopped, also in a later call. Raises DownloadBroken when bytes
        differ from the manifest's sha256.
        """
        manifest = self.artifacts(job_id)
        targets = [downloads.destination(folder, artifact.name) for artifact in manifest]
        for artifact, target in zip(manifest, targets, strict=True):
            downloads.fetch(self._transport, artifact, target, received)
        return tuple(targets)

    def download_archive(
        self, job_id: str, target: Path, *, received: downloads.Received | None = None
    ) -> None:
        """Bring the model folder of a job as one tar file."""
        downloads.fetch_archive(self._transport, f"/v1/jobs/{job_id}/archive", target, received)
