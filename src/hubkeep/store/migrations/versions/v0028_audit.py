"""The audit: chained entries, and the sealed end of each chain."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("chain", sa.String, nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("previous", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("time", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("credential", sa.String, nullable=False),
        sa.Column("surface", sa.String, nullable=False),
        sa.Column("peer", sa.String, nullable=False),
        sa.Column("operation", sa.String, nullable=False),
        sa.Column("target", sa.String, nullable=False),
        sa.Column("outcome", sa.String, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("tracking_id", sa.String, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("audit_chain", "audit", ["chain", "sequence"], unique=True)
    op.create_table(
        "audit_head",
        sa.Column("chain", sa.String, primary_key=True),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
    )
    # a mistake of the hub's own shall not change what was written
    op.execute(
        "CREATE TRIGGER audit_stays BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit is append-only'); END"
    )
