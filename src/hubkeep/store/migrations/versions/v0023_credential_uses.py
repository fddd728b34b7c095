"""Which key, thumbprint or authority each identity and policy last used."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    op.create_table(
        "credential_use",
        sa.Column("policy", sa.String, primary_key=True),
        sa.Column("device_id", sa.String, primary_key=True),
        sa.Column("module_id", sa.String, primary_key=True),
        sa.Column("slot", sa.String, primary_key=True),
        sa.Column("created", sa.Float, nullable=False),
        sa.Column("first_used", sa.Float, nullable=False),
        sa.Column("last_used", sa.Float, nullable=False),
        sa.Column("uses", sa.Integer, nullable=False),
        sa.Column("surface", sa.String, nullable=False),
        sa.Column("tls", sa.String, nullable=False),
        sa.Column("client", sa.String, nullable=False),
        sa.Column("peer", sa.String, nullable=False),
        sa.Column("token_seconds", sa.Integer, nullable=False),
        sa.Column("old_tls", sa.String, nullable=False),
        sa.Column("old_tls_used", sa.Float, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("credential_use_device", "credential_use", ["device_id", "module_id"])
    op.create_index("credential_use_old_tls", "credential_use", ["old_tls_used"], sqlite_where=sa.text("old_tls <> ''"))
    # a foreign key will not do: a back end's row has no identity
    op.execute(
        "CREATE TRIGGER credential_use_goes AFTER DELETE ON identity BEGIN "
        "DELETE FROM credential_use WHERE device_id = OLD.device_id AND module_id = OLD.module_id; END"
    )
