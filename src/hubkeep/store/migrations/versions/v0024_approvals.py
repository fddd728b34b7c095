"""Certificate requests that wait for somebody's approval."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    column = sa.Column("manual_approval", sa.Boolean, nullable=False, server_default=sa.false())
    op.add_column("authority", column)
    op.create_table(
        "certificate_request",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("authority", sa.String, nullable=False),
        sa.Column("device_id", sa.String, nullable=False),
        sa.Column("module_id", sa.String, nullable=False),
        sa.Column("identity_generation", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("asked", sa.Float, nullable=False),
        sa.Column("decided", sa.Float, nullable=False),
        sa.Column("by", sa.String, nullable=False),
    )
