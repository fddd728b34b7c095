"""Which devices have proved that they trust which root of the hub."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    op.create_table(
        "trust_proof",
        sa.Column("device_id", sa.String, primary_key=True),
        sa.Column("root", sa.String, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("peer", sa.String, nullable=False),
        sqlite_with_rowid=False,
    )
    op.execute(
        "CREATE TRIGGER trust_proof_goes AFTER DELETE ON identity WHEN OLD.module_id = '' BEGIN "
        "DELETE FROM trust_proof WHERE device_id = OLD.device_id; END"
    )
