"""Files may arrive in parts, and results are signed."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables; results that are there stay without a signature."""
    op.create_table(
        "uploads",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("owner_id", sa.String(length=32), nullable=False),
        sa.Column("model_id", sa.String(length=32), nullable=True),
        sa.Column("dataset_id", sa.String(length=32), nullable=True),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("part_bytes", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["owner_id"], ["owners.id"], name=op.f("fk_uploads_owner_id")),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_uploads_model_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_uploads_dataset_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_uploads")),
        sa.UniqueConstraint("model_id", "name", name=op.f("uq_uploads_model_id_name")),
        sa.UniqueConstraint("dataset_id", "name", name=op.f("uq_uploads_dataset_id_name")),
    )
    op.create_index("ix_uploads_owner_id_id", "uploads", ["owner_id", "id"])
    op.create_table(
        "upload_parts",
        sa.Column("upload_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("object", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(
            ["upload_id"], ["uploads.id"], name=op.f("fk_upload_parts_upload_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("upload_id", "number", name=op.f("pk_upload_parts")),
    )
    op.create_index("ix_upload_parts_object", "upload_parts", ["object"])
    op.create_table(
        "signing_keys",
        sa.Column("id", sa.String(length=43), nullable=False),
        sa.Column("public_key", sa.String(length=43), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signing_keys")),
    )
    op.create_table(
        "signatures",
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("key_id", sa.String(length=43), nullable=True),
        sa.Column("signature", sa.String(length=86), nullable=True),
        sa.Column("signed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.id"], name=op.f("fk_signatures_job_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["key_id"], ["signing_keys.id"], name=op.f("fk_signatures_key_id")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_signatures")),
    )
    unsigned = sa.text("signature IS NULL")
    op.create_index(
        "ix_signatures_unsigned",
        "signatures",
        ["job_id"],
        sqlite_where=unsigned,
        postgresql_where=unsigned,
    )


def downgrade() -> None:
    """Forget signatures, and uploads that are not complete; what has become a file stays one."""
    op.drop_table("signatures")
    op.drop_table("signing_keys")
    op.drop_table("upload_parts")
    op.drop_table("uploads")
