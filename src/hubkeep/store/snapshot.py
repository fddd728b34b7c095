"""A copy of a database as of one moment, while its owner goes on writing; and whether such a copy can be read."""

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hubkeep.errors import EventLogDamaged, StoreUnavailable

from . import event_file
from .durable_files import sync
from .event_file import Scrub, unreadable
from .event_marker import Marker

_PAGES_AT_ONCE: Final = 512

OnProgress = Callable[[int], None]


def copy_database(source: Path, to: Path, progress: OnProgress) -> None:
    """Copy a SQLite file that another process may be writing. ``to`` is new, for its owner alone, and on disk.

    progress: told the bytes that were copied since it was told last. Raises StoreUnavailable, EventLogDamaged.
    """
    os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with (
            contextlib.closing(event_file.open_reader(source)) as reading,
            contextlib.closing(sqlite3.connect(to, isolation_level=None)) as writing,
        ):
            # one snapshot for all steps: else SQLite begins the copy anew whenever the owner commits between two
            reading.execute("BEGIN")
            (page,) = reading.execute("PRAGMA page_size").fetchone()
            before = 0

            def told(_status: int, remaining: int, total: int) -> None:
                nonlocal before
                progress((total - remaining - before) * page)
                before = total - remaining

            reading.backup(writing, pages=_PAGES_AT_ONCE, progress=told, sleep=0)
            writing.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it
    except sqlite3.Error as error:
        raise unreadable(error, source.name) from None
    sync(to)


def check_event_log(path: Path) -> None:
    """Check every record of a copied event log, and mark how far it is durable.

    Raises EventLogDamaged with the range, StoreUnavailable, OSError.
    """
    partitions = _partitions(path)
    with contextlib.closing(event_file.open_reader(path)) as connection:
        states = event_file.states(connection, partitions)
        scrub = Scrub(states, ())
        while not scrub.is_done:
            scrub.check_some(connection, 1.0)
    for damage in scrub.damaged.values():
        raise EventLogDamaged(reason=damage.reason, remedy=damage.remedy)
    marker = Marker(path.with_suffix(".mark"), partitions)
    marker.open()
    try:
        marker.reserve()
        marker.write([state.last_sequence + 1 for state in states])
    finally:
        marker.close()


def _partitions(path: Path) -> int:
    try:
        with contextlib.closing(event_file.open_reader(path)) as connection:
            return int(connection.execute("SELECT partitions FROM log").fetchone()[0])
    except sqlite3.Error as error:
        raise unreadable(error, path.name) from None
    except TypeError:
        raise StoreUnavailable(reason=f"{path.name} is no event log", remedy=event_file.RESTORE) from None
