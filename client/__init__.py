"""A typed HTTP client of the service, `PruneryClient`. Needs httpx, pydantic and cryptography alone."""

from client.account import Account, AuditRecord, Key, NewKey
from client.client import PruneryClient
from client.errors import (
    ApiProblem,
    ClientError,
    DownloadBroken,
    FieldProblem,
    LocalFileProblem,
    NotVerified,
    Unreachable,
    UploadBroken,
    WaitTimeout,
)
from client.manifest import Manifest
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
    "Manifest",
    "MethodInfo",
    "Metric",
    "Metrics",
    "Model",
    "NewKey",
    "NotVerified",
    "Notice",
    "Proposal",
    "PruneryClient",
    "Unreachable",
    "UploadBroken",
    "Version",
    "WaitTimeout",
    "Worker",
]
