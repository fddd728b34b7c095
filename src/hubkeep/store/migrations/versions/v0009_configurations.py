"""Configurations, and the twins that they are for."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "configuration",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("configuration_id", sa.String, nullable=False),
        sa.Column("of_modules", sa.Boolean, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("condition", sa.Text, nullable=False),
        sa.Column("priority", sa.BigInteger, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("updated", sa.Float, nullable=False),
        sa.Column("labels", sa.Text, nullable=False),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("schema_version", sa.String, nullable=False),
        sa.Column("content_type", sa.String),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("is_deleted", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "configuration_hold",
        sa.Column("device_id", sa.String, primary_key=True),
        sa.Column("module_id", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("is_touched", sa.Boolean, nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id", "module_id"], ["identity.device_id", "identity.module_id"], ondelete="CASCADE"
        ),
        sqlite_with_rowid=False,
    )
    op.create_index("configuration_hold_number", "configuration_hold", ["number", "status"])
