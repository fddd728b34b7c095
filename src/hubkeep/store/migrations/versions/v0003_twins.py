"""Twins: one for each identity that is there."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_FRESH_METADATA = '{"$lastUpdated":"0001-01-01T00:00:00Z"}'


def upgrade() -> None:
    op.create_table(
        "twin",
        sa.Column("device_id", sa.String, primary_key=True),
        sa.Column("module_id", sa.String, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("model_id", sa.String, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("desired", sa.Text, nullable=False),
        sa.Column("desired_metadata", sa.Text, nullable=False),
        sa.Column("desired_version", sa.BigInteger, nullable=False),
        sa.Column("reported", sa.Text, nullable=False),
        sa.Column("reported_metadata", sa.Text, nullable=False),
        sa.Column("reported_version", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id", "module_id"], ["identity.device_id", "identity.module_id"], ondelete="CASCADE"
        ),
    )
    fresh = sa.text(
        "INSERT INTO twin SELECT device_id, module_id, 2, 1, '', '{}', '{}', :metadata, 1, '{}', :metadata, 1"
        " FROM identity"
    )
    op.execute(fresh.bindparams(metadata=_FRESH_METADATA))
