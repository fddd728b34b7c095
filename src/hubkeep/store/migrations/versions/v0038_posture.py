"""What the posture report is made from and what is kept of it: runs, accepted risks, uses of rights, ends of leaves."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"


def upgrade() -> None:
    op.add_column("credential_use", sa.Column("certificate_ends", sa.Float, nullable=False, server_default="0"))
    op.create_table(
        "posture_run",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "posture_waiver",
        sa.Column("check", sa.String, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "posture_fact",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("at", sa.Float, nullable=False),
    )
    op.create_table(
        "right_use",
        sa.Column("policy", sa.String, primary_key=True),
        sa.Column("right", sa.String, primary_key=True),
        sa.Column("is_own", sa.Boolean, primary_key=True),
        sa.Column("last_used", sa.Float, nullable=False),
        sqlite_with_rowid=False,
    )
    fact = sa.text("INSERT INTO posture_fact (name, at) VALUES ('rights-recorded', :now)")
    op.get_bind().execute(fact, {"now": time.time()})
