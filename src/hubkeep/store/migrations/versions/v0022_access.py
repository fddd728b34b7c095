"""Block and allow lists, and planned ends of identities."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.create_table(
        "access_rule",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("verdict", sa.String, nullable=False),
        sa.Column("devices", sa.Text, nullable=False),
        sa.Column("condition", sa.Text, nullable=False),
        sa.Column("authority", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("begins", sa.Float, nullable=False),
        sa.Column("ends", sa.Float, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("etag", sa.String, nullable=False),
    )
    op.create_table(
        "identity_expiry",
        sa.Column("device_id", sa.String, primary_key=True),
        sa.Column("module_id", sa.String, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id", "module_id"], ["identity.device_id", "identity.module_id"], ondelete="CASCADE"
        ),
        sqlite_with_rowid=False,
    )
