"""What became of devices that registered themselves, and which enrolment made an identity."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.create_table(
        "registration",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("is_group", sa.Boolean, nullable=False),
        sa.Column("enrolment_key", sa.String, nullable=False),
        sa.Column("etag", sa.String, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("registration_enrolment", "registration", ["is_group", "enrolment_key", "key"])
    op.create_table(
        "registration_operation",
        sa.Column("operation_id", sa.String, primary_key=True),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("begun", sa.Float, nullable=False),
        sa.Column("is_open", sa.Boolean, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_registration_operation_begun", "registration_operation", ["begun"])
    op.create_index(
        "registration_operation_open", "registration_operation", ["is_open"], sqlite_where=sa.text("is_open")
    )
    op.create_table(
        "provisioned",
        sa.Column("device_id", sa.String, primary_key=True),
        sa.Column("module_id", sa.String, nullable=False),
        sa.Column("is_group", sa.Boolean, nullable=False),
        sa.Column("enrolment_key", sa.String, nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id", "module_id"], ["identity.device_id", "identity.module_id"], ondelete="CASCADE"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("provisioned_enrolment", "provisioned", ["is_group", "enrolment_key"])
