"""Keys have scopes and may expire, owners have limits, and changes are written down."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_LIMITS = ("max_queued_jobs", "max_running_jobs", "max_stored_bytes", "max_device_seconds")


def upgrade() -> None:
    """Add the columns and tables; keys that are there keep all their rights."""
    for name in _LIMITS:
        op.add_column("owners", sa.Column(name, sa.BigInteger()))
    scopes = sa.Column("scopes", sa.String(length=255), server_default="admin", nullable=False)
    op.add_column("api_keys", scopes)
    for name in ("expires_at", "last_used_at"):
        op.add_column("api_keys", sa.Column(name, sa.DateTime(timezone=True)))
    op.create_table(
        "device_use",
        sa.Column("owner_id", sa.String(length=32), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name=op.f("fk_device_use_owner_id")),
        sa.PrimaryKeyConstraint("owner_id", "day", name=op.f("pk_device_use")),
    )
    op.create_table(
        "audit_log",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("owner_id", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.String(length=32), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("object", sa.String(length=255), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("request_id", sa.String(length=128)),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index("ix_audit_log_owner_id_id", "audit_log", ["owner_id", "id"])
    op.create_index("ix_audit_log_at", "audit_log", ["at"])


def downgrade() -> None:
    """Drop what was added. Older code knows neither scopes nor dates: keys that have one are revoked."""
    op.execute(
        "UPDATE api_keys SET revoked_at = CURRENT_TIMESTAMP "
        "WHERE revoked_at IS NULL AND (scopes <> 'admin' OR expires_at IS NOT NULL)"
    )
    op.drop_table("audit_log")
    op.drop_table("device_use")
    for name in ("last_used_at", "expires_at", "scopes"):
        op.drop_column("api_keys", name)
    for name in reversed(_LIMITS):
        op.drop_column("owners", name)
