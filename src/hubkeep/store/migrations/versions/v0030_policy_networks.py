"""Where the tokens of a shared access policy may be used from."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    for name in ("allow", "deny"):
        op.add_column("policy", sa.Column(name, sa.Text, nullable=False, server_default="[]"))  # JSON arrays
