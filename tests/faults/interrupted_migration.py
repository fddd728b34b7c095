"""Kill the migration of a registry at its first statement, its second, and so on, until it gets through.

``python interrupted_migration.py FOLDER REVISION`` makes a registry of REVISION in FOLDER. After each kill the file is
of REVISION or of the newest one, whole, and a new start finishes. Prints the number of kills.
"""

import os
import shutil
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import NullPool, create_engine, event

import hubkeep.store.migrations
from hubkeep.store import registry
from hubkeep.store.tables import HEAD


def engine_of(path: Path) -> Any:
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    registry._make_durable(engine)
    return engine


def make(path: Path, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(hubkeep.store.migrations.__file__).parent))
    with engine_of(path).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        connection.exec_driver_sql(
            "INSERT INTO identity VALUES"
            " ('d', '', 'g', 'e', 'enabled', NULL, 0, 0, 0, 0, 'sas', NULL, NULL, NULL, NULL, 0, '', '[]', NULL)"
        )


def killed_at(statement: int, path: Path) -> bool:
    """Migrate in a child that is killed before its ``statement``-th one. False: it had fewer."""
    child = os.fork()
    if not child:
        engine = engine_of(path)
        left = statement

        @event.listens_for(engine, "before_cursor_execute")
        def count(*_: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        registry.migrate(engine, path)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in {0, signal.SIGKILL}, status
    return status != 0


def revision_of(path: Path) -> str:
    with sqlite3.connect(path) as connection:
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        assert connection.execute("SELECT device_id FROM identity").fetchall() == [("d",)]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    return str(revision)


def main(folder: Path, revision: str) -> None:
    make(folder / "old.db", revision)
    assert revision_of(folder / "old.db") == revision
    kills = 0
    while True:
        path = folder / f"{kills}.db"
        shutil.copyfile(folder / "old.db", path)
        if not killed_at(kills, path):
            assert revision_of(path) == HEAD
            break
        assert revision_of(path) == revision
        registry.migrate(engine_of(path), path)
        assert revision_of(path) == HEAD
        kills += 1
    print(kills)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
