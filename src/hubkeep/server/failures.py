"""Why a hub cannot start: each with its cause and the ways out."""

import contextlib
from collections.abc import Iterator

from hubkeep.cloud.secrets import KeyFileError
from hubkeep.store.start_failures import DataDirectoryInUse, NotPermitted, SchemaTooNew


class StartFailure(Exception):
    """The hub cannot start here. cause: what is in the way. cure: the ways out."""

    def __init__(self, cause: str, cure: str = "") -> None:
        super().__init__(f"{cause}: {cure}" if cure else cause)
        self.cause, self.cure = cause, cure


class CannotListen(StartFailure):
    """A port that cannot be bound."""


class NotServable(StartFailure):
    """The data directory may not be used here and now: permissions, another process, a newer schema (L-S7)."""


class WrongDirectory(StartFailure):
    """The data directory belongs to another mode, or its keys are public and the address is not loopback."""


@contextlib.contextmanager
def start_failures() -> Iterator[None]:
    try:
        yield
    except DataDirectoryInUse as error:
        raise NotServable(str(error), "stop that hub, or name another directory with --data") from None
    except SchemaTooNew as error:
        raise NotServable(str(error), "start it with the newer version") from None
    except (KeyFileError, NotPermitted) as error:
        raise NotServable(str(error)) from None
    except PermissionError as error:
        raise NotServable(f"{error.filename}: {error.strerror}", "check its owner and mode") from None
