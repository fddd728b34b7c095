"""Configurations of a third kind: edge deployments."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("configuration", sa.Column("kind", sa.String, nullable=False, server_default="deviceContent"))
    op.execute("UPDATE configuration SET kind = 'moduleContent' WHERE of_modules")
    op.drop_column("configuration", "of_modules")
