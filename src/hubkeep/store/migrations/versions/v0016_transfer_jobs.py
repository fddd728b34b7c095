"""Import and export jobs."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.create_table(
        "transfer_job",
        sa.Column("job_id", sa.String, primary_key=True),
        sa.Column("type", sa.String, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("begun", sa.Float, nullable=False),
        sa.Column("ended", sa.Float, nullable=False),
        sa.Column("status", sa.String, nullable=False, index=True),
        sa.Column("failure", sa.Text, nullable=False),
        sa.Column("input_url", sa.LargeBinary, nullable=False),
        sa.Column("input_blob", sa.Text, nullable=False),
        sa.Column("output_url", sa.LargeBinary, nullable=False),
        sa.Column("output_blob", sa.Text, nullable=False),
        sa.Column("with_keys", sa.Boolean, nullable=False),
        sa.Column("with_configurations", sa.Boolean, nullable=False),
        sa.Column("configurations_blob", sa.Text, nullable=False),
        sa.Column("progress", sa.Integer, nullable=False),
        sa.Column("etag", sa.String, nullable=False),
        sa.Column("after", sa.String, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("blocks", sa.Integer, nullable=False),
        sa.Column("records", sa.BigInteger, nullable=False),
        sa.Column("refused", sa.BigInteger, nullable=False),
    )
    op.create_index("transfer_job_created", "transfer_job", ["created"])
