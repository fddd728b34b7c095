"""Why a data directory cannot be served, for reasons that lie outside its content: the operator's to mend (L-S7)."""

import errno
import sqlite3
from typing import Final

_SQLITE_CODES: Final = frozenset(
    {sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
)
_SYSTEM_CODES: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class DataDirectoryInUse(Exception):
    """Another process serves this data directory."""


class SchemaTooNew(Exception):
    """A file was written by a newer version of Hubkeep."""


class NotPermitted(Exception):
    """A file or the directory may not be read or written by this user."""


def is_about_permission(error: BaseException | None) -> bool:
    """Whether an error of the system or of SQLite says that this user may not."""
    if isinstance(error, OSError):
        return error.errno in _SYSTEM_CODES
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF in _SQLITE_CODES
