"""A typed HTTP client of the service, `PruneryClient`. Needs httpx and pydantic, nothing of the service."""

from client.account import Account, AuditRecord, Key, NewKey
from client.client import PruneryClient
from client.errors import (
    ApiProblem,
    ClientError,
    DownloadBroken,
    FieldProblem,
    LocalFileProblem,
    Unreachable,
    UploadBroken,
    WaitTimeout,
)
from client.replies import (
    Artifact,
    Dataset,
    Event,
    Job,
    JobError,
    MethodInfo,
    Metric,
    Metrics,
    Model,
    Notice,
    Proposal,
    Version,
    Worker,
)

__all__ = [
    "Account",
    "ApiProblem",
    "Artifact",
    "AuditRecord",
    "ClientError",
    "Dataset",
    "DownloadBroken",
    "Event",
    "FieldProblem",
    "Job",
    "JobError",
    "Key",
    "LocalFileProblem",
    "MethodInfo",
    "Metric",
    "Metrics",
    "Model",
    "NewKey",
    "Notice",
    "Proposal",
    "PruneryClient",
    "Unreachable",
    "UploadBroken",
    "Version",
    "WaitTimeout",
    "Worker",
]
