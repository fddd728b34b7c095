"""Other hubs that the provisioning service assigns devices to."""

import sqlalchemy as sa
from alembic import op

revision = "0041"
down_revision = "0040"


def upgrade() -> None:
    op.create_table(
        "linked_hub",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("host_name", sa.String, nullable=False, unique=True),
        sa.Column("weight", sa.Integer, nullable=False),
        sa.Column("applies", sa.Boolean, nullable=False),
        sa.Column("connection", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
