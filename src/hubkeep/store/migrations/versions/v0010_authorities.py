"""Certificate authorities that speak for devices."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "authority",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        sa.Column("sha256", sa.String, nullable=False, unique=True),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("etag", sa.String, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("updated", sa.Float, nullable=False),
        sa.Column("code", sa.String, nullable=False),
        sa.Column("code_expires", sa.Float, nullable=False),
    )
