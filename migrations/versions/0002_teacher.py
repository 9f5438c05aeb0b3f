"""A job may name a teacher."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

COLUMNS = ("teacher_id", "teacher_job_id")


def upgrade() -> None:
    """Add the columns; jobs that are there have no teacher of their own."""
    for name in COLUMNS:
        op.add_column("jobs", sa.Column(name, sa.String(length=32), nullable=True))
        op.create_index(f"ix_jobs_{name}", "jobs", [name])


def downgrade() -> None:
    """Forget the teachers."""
    for name in COLUMNS:
        op.drop_index(f"ix_jobs_{name}", "jobs")
        op.drop_column("jobs", name)
