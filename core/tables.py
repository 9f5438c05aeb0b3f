"""Every table of the ledger in one place, for migrations."""

from core.accounts.tables import ApiKey, DeviceUse, Owner
from core.artifacts.tables import Artifact
from core.assets.tables import AssetFile, Dataset, Model
from core.audit.tables import AuditRecord
from core.db.base import Base
from core.jobs.tables import IdempotencyKey, Job, JobEvent
from core.signing.tables import Signature, SigningKey
from core.uploads.tables import Upload, UploadPart
from core.webhooks.tables import Webhook, WebhookDelivery
from core.workers.tables import Worker

TABLES = (
    Owner,
    ApiKey,
    DeviceUse,
    AuditRecord,
    Model,
    Dataset,
    AssetFile,
    Upload,
    UploadPart,
    Job,
    JobEvent,
    IdempotencyKey,
    Artifact,
    SigningKey,
    Signature,
    Worker,
    Worker,
    Webhook,
    WebhookDelivery,
)
METADATA = Base.metadata
