"""Certificate authorities of the hub's own, what they issued, and the deny-list."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    for column in (
        sa.Column("kind", sa.String, nullable=False, server_default="registered"),
        sa.Column("chain", sa.Text, nullable=False, server_default="[]"),  # JSON array of base64
        sa.Column("key", sa.String, nullable=False, server_default=""),
        sa.Column("vouched", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("allowed_ids", sa.Text, nullable=False, server_default="[]"),  # JSON array
        sa.Column("days", sa.Float, nullable=False, server_default="0"),
        sa.Column("revocation", sa.String, nullable=False, server_default="off"),
        sa.Column("crl_url", sa.String, nullable=False, server_default=""),
        sa.Column("ocsp_url", sa.String, nullable=False, server_default=""),
    ):
        op.add_column("authority", column)
    op.create_table(
        "issued_certificate",
        sa.Column("authority", sa.String, primary_key=True),
        sa.Column("serial", sa.String, primary_key=True),
        sa.Column("device_id", sa.String, nullable=False),
        sa.Column("module_id", sa.String, nullable=False),
        sa.Column("identity_generation", sa.String, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("key_sha256", sa.String, nullable=False),
        sa.Column("certificate", sa.LargeBinary, nullable=False),
        sa.Column("issued", sa.Float, nullable=False),
        sa.Column("not_before", sa.Float, nullable=False),
        sa.Column("not_after", sa.Float, nullable=False),
        sa.Column("door", sa.String, nullable=False),
        sa.Column("first_used", sa.Float, nullable=False),
        sa.Column("last_used", sa.Float, nullable=False),
        sa.Column("superseded", sa.Float, nullable=False),
        sa.Column("revoked", sa.Float, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
    )
    op.create_index("issued_to", "issued_certificate", ["device_id", "module_id", "issued"])
    op.create_index("issued_key", "issued_certificate", ["key_sha256"])
    op.create_index("issued_when", "issued_certificate", ["issued"])
    op.create_index(
        "issued_revoked", "issued_certificate", ["authority", "not_after"], sqlite_where=sa.text("revoked > 0")
    )
    op.create_table(
        "credential_generation",
        sa.Column("device_id", sa.String, primary_key=True),
        sa.Column("module_id", sa.String, primary_key=True),
        sa.Column("generation", sa.Integer, nullable=False),
    )
    op.create_table(
        "authority_use",
        sa.Column("authority", sa.String, primary_key=True),
        sa.Column("device_id", sa.String, primary_key=True),
        sa.Column("module_id", sa.String, primary_key=True),
        sa.Column("last_used", sa.Float, nullable=False),
    )
    op.create_table(
        "denial",
        sa.Column("mark", sa.String, primary_key=True),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("value", sa.String, nullable=False),
        sa.Column("issuer", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
    op.create_table(
        "revocation_list",
        sa.Column("authority", sa.String, primary_key=True),
        sa.Column("list", sa.LargeBinary, nullable=False),
        sa.Column("number", sa.String, nullable=False),  # CRLNumber has up to 20 octets
        sa.Column("updated", sa.Float, nullable=False),
        sa.Column("next_update", sa.Float, nullable=False),
        sa.Column("fetched", sa.Float, nullable=False),
        sa.Column("failure", sa.String, nullable=False),
    )
