"""Enrolments of the provisioning service, and its id scope."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0016"


def upgrade() -> None:
    op.create_table(
        "enrolment",
        sa.Column("is_group", sa.Boolean, primary_key=True),
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("etag", sa.String, nullable=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
        sa.Column("primary_key", sa.LargeBinary),
        sa.Column("secondary_key", sa.LargeBinary),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "enrolment_exclusive",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("is_group", sa.Boolean, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.ForeignKeyConstraint(["is_group", "key"], ["enrolment.is_group", "enrolment.key"], ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.create_index("enrolment_exclusive_owner", "enrolment_exclusive", ["is_group", "key"])
    count = op.create_table(
        "enrolment_count",
        sa.Column("individuals", sa.Integer, nullable=False),
        sa.Column("groups", sa.Integer, nullable=False),
    )
    op.bulk_insert(count, [{"individuals": 0, "groups": 0}])
    op.create_table(
        "provisioning_fact",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("value", sa.String, nullable=False),
    )
