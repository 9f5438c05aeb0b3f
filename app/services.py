"""What the routes work with: made once per application, started and stopped with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import anyio

from app.doorbell import Doorbell
from app.http.rates import Rates
from app.jobs.feed import Feed
from core.accounts.last_use import LastUse
from core.accounts.quotas import Quotas
from core.artifacts.configured import configured_store
from core.artifacts.store import Store
from core.assets.hub import HubClient
from core.db import Database
from core.jobs.forecast import Forecaster
from core.jobs.heads import Head, heads
from core.jobs.statistics import EndedJobs
from core.settings import Settings
from core.signing.signer import Signer
from core.webhooks.guard import Guard

CONCURRENT_UPLOADS = 16


@dataclass(frozen=True)
class Services:
    """The settings and everything made from them. `hub` is None where the hub is switched off.

    `quotas` are the limits of owners who have none of their own.
    """

    settings: Settings
    database: Database
    store: Store
    signer: Signer
    hub: HubClient | None
    doorbell: Doorbell
    feed: Feed
    ended_jobs: EndedJobs
    quotas: Quotas
    rates: Rates
    last_use: LastUse
    forecaster: Forecaster
    guard: Guard
    upload_threads: anyio.CapacityLimiter

    @classmethod
    def from_settings(cls, settings: Settings) -> "Services":
        """Make the services; opens no connection and starts no thread."""
        database = Database(settings.database_url)
        return cls(
            settings=settings,
            database=database,
            store=configured_store(settings),
            signer=Signer(database, settings.signing_key_file),
            hub=HubClient.from_settings(settings),
            doorbell=Doorbell(settings),
            feed=Feed(partial(_read_heads, database)),
            ended_jobs=EndedJobs(database),
            quotas=Quotas.from_settings(settings),
            rates=Rates.from_settings(settings),
            last_use=LastUse(database),
            forecaster=Forecaster(),
            guard=Guard.from_settings(settings),
            # Uploads have threads of their own, so that slow clients cannot keep short requests waiting.
            upload_threads=anyio.CapacityLimiter(CONCURRENT_UPLOADS),
        )


def _read_heads(database: Database, job_ids: Sequence[str]) -> dict[str, Head]:
    with database.read() as session:
        return heads(session, job_ids)
