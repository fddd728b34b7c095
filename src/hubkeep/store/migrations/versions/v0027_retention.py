"""What the event log retains, where that was changed while the hub ran: one row or none."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0025"


def upgrade() -> None:
    op.create_table("retention", sa.Column("hours", sa.Float), sa.Column("size", sa.BigInteger))
