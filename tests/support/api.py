"""The real API over HTTP in a thread of the test, without a worker: jobs wait until a test plays the worker."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.accounts.repository import create_key, create_owner
from core.artifacts.configured import configured_store
from core.artifacts.repository import ArtifactRecord
from core.db import Database, migrate
from core.jobs.attempts import Claim, JobError
from core.jobs.events import NewEvent
from core.jobs.leases import claim, fail, finish, renew
from core.jobs.states import RetryPolicy
from core.settings import Settings
from core.webhooks.guard import Guard
from tests.support.server import running

RESULT = {
    "model/config.json": b"{}",
    "model/model.safetensors": bytes(100_000),
    "report.json": b'{"kind": "shrunk"}',
}
"""The files that `succeed` publishes."""


@dataclass(frozen=True)
class Api:
    """Where a running API is, the keys of two owners, and what lies behind it."""

    url: str
    key: str
    other_key: str
    database: Database
    settings: Settings

    def take(self, job_id: str) -> Claim:
        """Claim a job, which must be the first that is due."""
        with self.database.write() as session:
            claimed = claim(session, worker_id="test", queues=["cpu"], lease_seconds=60)
        assert claimed is not None
        assert claimed.token.job_id == job_id
        return claimed

    def report(self, claimed: Claim, events: Sequence[NewEvent], **metrics: float) -> None:
        """Renew the lease with news."""
        with self.database.write() as session:
            renew(session, claimed.token, lease_seconds=60, events=events, metrics=metrics)

    def succeed(self, claimed: Claim, **report: Any) -> None:
        """Publish `RESULT`; `report` is added to its report."""
        store = configured_store(self.settings)
        records = []
        for name, content in RESULT.items():
            stored = store.put(iter([content]))
            records.append(ArtifactRecord(name, stored.bytes, stored.sha256, "application/octet-stream"))
        with self.database.write() as session:
            finish(session, claimed.token, artifacts=records, report={"kind": "shrunk"} | report)

    def fail(self, claimed: Claim, message: str, param: str) -> None:
        """End a job by an error of its request."""
        error = JobError("invalid_data", "user", message, param)
        with self.database.write() as session:
            fail(session, claimed.token, error, RetryPolicy())


@contextmanager
def running_api(data_dir: Path, guard: Guard | None = None, **changes: Any) -> Iterator[Api]:
    """Serve the API on a database without owners, by default a new one under `data_dir`.

    `changes` are to the settings; `guard` judges the addresses of webhooks in place of the settings' own.
    """
    from app.main import create_app

    settings = Settings(data_dir=data_dir, **changes)
    migrate(settings.database_url)
    database = Database(settings.database_url)
    with database.write() as session:
        key, other = (
            create_key(session, create_owner(session, name).id, "test")[1] for name in ("us", "them")
        )
    app = create_app(settings)
    if guard is not None:
        app.state.services = replace(app.state.services, guard=guard)
    try:
        with running(app) as url:
            yield Api(url, key, other, database, settings)
    finally:
        database.dispose()
