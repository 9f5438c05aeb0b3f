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
from client.plans import Duration, Forecast, JobPlan, Span
from client.replies import (
    Artifact,
    Dataset,
    Event,
    Job,
    JobError,
    Log,
    MethodInfo,
    Metric,
    Metrics,
    Model,
    Notice,
    Proposal,
    Version,
    Worker,
)
from client.webhooks import Webhook, WebhookDelivery, Webhooks, WebhookSecret

__all__ = [
    "Account",
    "ApiProblem",
    "Artifact",
    "AuditRecord",
    "ClientError",
    "Dataset",
    "DownloadBroken",
    "Duration",
    "Event",
    "FieldProblem",
    "Forecast",
    "Job",
    "JobError",
    "JobPlan",
    "Key",
    "LocalFileProblem",
    "Log",
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
    "Span",
    "Unreachable",
    "UploadBroken",
    "Version",
    "WaitTimeout",
    "Webhook",
    "WebhookDelivery",
    "WebhookSecret",
    "Webhooks",
    "Worker",
]
