"""Tokens that were accepted from more than one address."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    op.create_table(
        "replay",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("time", sa.Float, nullable=False),
        sa.Column("surface", sa.String, nullable=False),
        sa.Column("identity", sa.String, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("address", sa.String, nullable=False),
        sa.Column("first_address", sa.String, nullable=False),
        sa.Column("first_time", sa.Float, nullable=False),
        sa.Column("client", sa.String, nullable=False),
        sa.Column("fingerprint", sa.String, nullable=False),
    )
    op.create_index("ix_replay_identity", "replay", ["identity"])
