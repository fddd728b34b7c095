"""Events of the hub that wait to be passed on, and the sources that are switched on."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    op.create_table(
        "hub_event",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("source", sa.String, nullable=False),
        sa.Column("operation", sa.String, nullable=False),
        sa.Column("device_id", sa.String, nullable=False),
        sa.Column("module_id", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table("event_source", sa.Column("source", sa.String, primary_key=True))
