"""The name of the cause of each refusal, beside the words for it."""

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0030"


def upgrade() -> None:
    op.add_column("refusal", sa.Column("cause", sa.String, nullable=False, server_default=""))
