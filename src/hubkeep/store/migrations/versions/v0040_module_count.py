"""How many modules there are, beside the devices: they count for the quota too."""

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0039"


def upgrade() -> None:
    op.add_column("device_count", sa.Column("modules", sa.Integer, nullable=False, server_default="0"))
    op.execute("UPDATE device_count SET modules = (SELECT count(*) FROM identity WHERE module_id <> '')")
