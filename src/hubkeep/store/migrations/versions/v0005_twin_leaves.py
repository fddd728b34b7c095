"""What queries look twins up by."""

import sqlalchemy as sa
from alembic import op
from msgspec import json

from hubkeep.model import Twin, TwinSection, leaves

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "twin_leaf",
        sa.Column("path", sa.String, primary_key=True),
        sa.Column("value", sa.String, primary_key=True),
        sa.Column("device_id", sa.String, primary_key=True),
        sa.Column("module_id", sa.String, primary_key=True),
        sqlite_with_rowid=False,
    )
    connection = op.get_bind()
    into = sa.text("INSERT INTO twin_leaf VALUES (:path, :value, :device_id, :module_id)")
    for device_id, module_id, tags, desired, reported in connection.execute(
        sa.text("SELECT device_id, module_id, tags, desired, reported FROM twin")
    ).all():
        twin = Twin(
            device_id=device_id,
            module_id=module_id,
            tags=json.decode(tags),
            desired=TwinSection(json.decode(desired), {}, 0),
            reported=TwinSection(json.decode(reported), {}, 0),
        )
        rows = [
            {"path": path, "value": value, "device_id": device_id, "module_id": module_id}
            for path, value in leaves(twin)
        ]
        if rows:
            connection.execute(into, rows)
