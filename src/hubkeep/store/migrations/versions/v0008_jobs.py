"""Scheduled jobs and their parts."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "job",
        sa.Column("job_id", sa.String, primary_key=True),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("task", sa.Text, nullable=False),
        sa.Column("condition", sa.Text, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("start", sa.Float, nullable=False),
        sa.Column("max_seconds", sa.Integer, nullable=False),
        sa.Column("begun", sa.Float, nullable=False),
        sa.Column("ended", sa.Float, nullable=False),
        sa.Column("status", sa.String, nullable=False, index=True),
        sa.Column("failure", sa.Text, nullable=False),
        sa.Column("is_spread", sa.Boolean, nullable=False),
    )
    op.create_index("job_created", "job", ["created", "job_id"])
    op.create_table(
        "job_part",
        sa.Column("job_id", sa.String, primary_key=True),
        sa.Column("device_id", sa.String, primary_key=True),
        sa.Column("module_id", sa.String, primary_key=True),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("started", sa.Float, nullable=False),
        sa.Column("ended", sa.Float, nullable=False),
        sa.Column("updated", sa.Float, nullable=False),
        sa.Column("answer", sa.Text),
        sa.Column("error", sa.Text),
        sa.ForeignKeyConstraint(["job_id"], ["job.job_id"], ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_index("job_part_status", "job_part", ["job_id", "status"])
    op.create_index("job_part_device", "job_part", ["device_id"])
