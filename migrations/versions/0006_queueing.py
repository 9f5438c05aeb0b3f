"""Jobs may be paused, say which GPUs they need, and are claimed by fair shares."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS: tuple[tuple[str, str, sa.types.TypeEngine[Any], str | None], ...] = (
    ("jobs", "gpus", sa.BigInteger(), "0"),
    ("jobs", "gpu_memory_gib", sa.BigInteger(), "0"),
    ("jobs", "turn", sa.Double(), "0"),
    ("jobs", "device_seconds", sa.Double(), "0"),
    ("jobs", "charged_at", sa.DateTime(timezone=True), None),
    ("owners", "recent_use", sa.Double(), "0"),
    ("workers", "gpu_memory_gib", sa.Double(), "0"),
)
QUEUED = "status = 'queued'"
OLD_INDEXES = {
    "ix_jobs_claim": (["queue", "priority", "created_at"], QUEUED),
    "ix_jobs_lease_until": (["lease_until"], "status IN ('running', 'canceling')"),
    "ix_jobs_owner_id_status": (["owner_id", "status"], None),
    "ix_jobs_model_id": (["model_id"], None),
    "ix_jobs_model_job_id": (["model_job_id"], None),
}
NEW_INDEXES = {
    "ix_jobs_claim": (["owner_id", "queue", "turn", "id", "priority"], QUEUED),
    "ix_jobs_lease_until": (["lease_until"], "status IN ('running', 'pausing', 'canceling')"),
    "ix_jobs_owner_id_status_id": (["owner_id", "status", "id"], None),
    "ix_jobs_model_id_id": (["model_id", "id"], None),
    "ix_jobs_model_job_id_id": (["model_job_id", "id"], None),
}
OLD_STATUSES = ("queued", "running", "canceling", "succeeded", "failed", "canceled")
NEW_STATUSES = ("queued", "running", "pausing", "paused", "canceling", "succeeded", "failed", "canceled")
Indexes = dict[str, tuple[list[str], str | None]]


def upgrade() -> None:
    """Add the columns; jobs that wait keep their order, and nobody has used anything yet."""
    _drop(OLD_INDEXES)
    _allow(NEW_STATUSES)
    for table, name, kind, default in COLUMNS:
        op.add_column(table, sa.Column(name, kind, nullable=default is None, server_default=default))
    sqlite = op.get_bind().dialect.name == "sqlite"
    seconds = "(julianday(created_at) - 2440587.5) * 86400" if sqlite else "extract(epoch FROM created_at)"
    op.execute(f"UPDATE jobs SET turn = {seconds} - 60 * priority")  # noqa: S608 - two constants
    _create(NEW_INDEXES)


def downgrade() -> None:
    """Let paused jobs wait and pausing ones run, and forget shares and needs."""
    _drop(NEW_INDEXES)
    op.execute("UPDATE jobs SET status = 'queued' WHERE status = 'paused'")
    op.execute("UPDATE jobs SET status = 'running' WHERE status = 'pausing'")
    _allow(OLD_STATUSES)
    for table, name, _, _ in COLUMNS:
        op.drop_column(table, name)
    _create(OLD_INDEXES)


def _allow(statuses: tuple[str, ...]) -> None:
    names = ", ".join(f"'{status}'" for status in statuses)
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_constraint(op.f("ck_jobs_status"), type_="check")
        jobs.create_check_constraint(op.f("ck_jobs_status"), f"status IN ({names})")


def _drop(indexes: Indexes) -> None:
    for name in indexes:
        op.drop_index(name, "jobs")


def _create(indexes: Indexes) -> None:
    for name, (columns, where) in indexes.items():
        only = None if where is None else sa.text(where)
        op.create_index(name, "jobs", columns, sqlite_where=only, postgresql_where=only)
