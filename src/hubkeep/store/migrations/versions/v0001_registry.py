"""Identities, policies, refusals."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "identity",
        sa.Column("device_id", sa.String, primary_key=True),
        sa.Column("module_id", sa.String, primary_key=True),
        sa.Column("generation_id", sa.String, nullable=False),
        sa.Column("etag", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("status_reason", sa.String),
        sa.Column("status_updated", sa.Float, nullable=False),
        sa.Column("connected", sa.Boolean, nullable=False),
        sa.Column("connection_updated", sa.Float, nullable=False),
        sa.Column("last_activity", sa.Float, nullable=False),
        sa.Column("authentication", sa.String, nullable=False),
        sa.Column("primary_key", sa.LargeBinary),
        sa.Column("secondary_key", sa.LargeBinary),
        sa.Column("primary_thumbprint", sa.String),
        sa.Column("secondary_thumbprint", sa.String),
        sa.Column("iot_edge", sa.Boolean, nullable=False),
        sa.Column("device_scope", sa.String, nullable=False),
        sa.Column("parent_scopes", sa.Text, nullable=False),
        sa.Column("managed_by", sa.String),
    )
    op.create_index("identity_connected", "identity", ["connected"], sqlite_where=sa.text("connected"))
    device_count = op.create_table(
        "device_count",
        sa.Column("total", sa.Integer, nullable=False),
        sa.Column("disabled", sa.Integer, nullable=False),
        sa.Column("connected", sa.Integer, nullable=False),
    )
    op.bulk_insert(device_count, [{"total": 0, "disabled": 0, "connected": 0}])
    op.create_table(
        "policy",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("permissions", sa.Integer, nullable=False),
        sa.Column("primary_key", sa.LargeBinary, nullable=False),
        sa.Column("secondary_key", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "refusal",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("tracking_id", sa.String, nullable=False, index=True),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("surface", sa.String, nullable=False),
        sa.Column("peer", sa.String, nullable=False),
        sa.Column("identity", sa.String, nullable=False, index=True),
        sa.Column("operation", sa.String, nullable=False),
        sa.Column("code", sa.Integer, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("remedy", sa.Text, nullable=False),
        sa.Column("presented", sa.Text, nullable=False),
    )
