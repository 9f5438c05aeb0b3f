"""Every table of the ledger in one place, for migrations."""

from core.accounts.tables import ApiKey, Owner
from core.artifacts.tables import Artifact
from core.assets.tables import AssetFile, Dataset, Model
from core.db.base import Base
from core.jobs.tables import IdempotencyKey, Job, JobEvent
from core.webhooks.tables import Webhook, WebhookDelivery
from core.workers.tables import Worker

TABLES = (
    Owner,
    ApiKey,
    Model,
    Dataset,
    AssetFile,
    Job,
    JobEvent,
    IdempotencyKey,
    Artifact,
    Worker,
    Webhook,
    WebhookDelivery,
)
METADATA = Base.metadata
