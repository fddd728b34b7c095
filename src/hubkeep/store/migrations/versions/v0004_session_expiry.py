"""How long the session of an MQTT 5 client outlives its connection."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.add_column("mqtt_session", sa.Column("expiry", sa.Integer))
