"""Cloud-to-device messages, feedback, and the subscriptions of MQTT clients."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "queued_message",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("device_id", sa.String, nullable=False),
        sa.Column("module_id", sa.String, nullable=False),
        sa.Column("generation_id", sa.String, nullable=False),
        sa.Column("enqueued", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.BigInteger, nullable=False, index=True),
        sa.Column("deliveries", sa.Integer, nullable=False),
        sa.Column("message", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("queued_message_queue", "queued_message", ["device_id", "module_id", "sequence"])
    op.create_table(
        "feedback_record",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "mqtt_session",
        sa.Column("device_id", sa.String, primary_key=True),
        sa.Column("module_id", sa.String, primary_key=True),
        sa.Column("subscriptions", sa.LargeBinary, nullable=False),
        sa.ForeignKeyConstraint(
            ["device_id", "module_id"], ["identity.device_id", "identity.module_id"], ondelete="CASCADE"
        ),
    )
