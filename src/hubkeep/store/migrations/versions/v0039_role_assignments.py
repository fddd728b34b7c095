"""Which people have which roles."""

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"


def upgrade() -> None:
    op.create_table(
        "role_assignment",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("claim", sa.String, nullable=False),
        sa.Column("value", sa.String, nullable=False),
        sa.Column("devices", sa.Text, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("created_by", sa.String, nullable=False),
    )
