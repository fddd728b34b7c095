"""File uploads, and the key that signs their URLs."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "upload",
        sa.Column("upload_id", sa.String, primary_key=True),
        sa.Column("device_id", sa.String, nullable=False, index=True),
        sa.Column("generation_id", sa.String, nullable=False),
        sa.Column("blob_name", sa.Text, nullable=False),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("expires", sa.Float, nullable=False, index=True),
        sa.Column("block_list", sa.String, nullable=False),
        sa.Column("finished", sa.Boolean, nullable=False),
    )
    op.create_table(
        "signing_key",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("key", sa.LargeBinary, nullable=False),
    )
