"""Accept the loss of damaged events in a data directory that no hub serves."""

import contextlib
import getpass
from collections.abc import Iterator
from pathlib import Path

from hubkeep.cloud.audit_trail import AuditTrail
from hubkeep.store import event_loss
from hubkeep.store.event_loss import Lost, Note, Survey
from hubkeep.store.registry import locked

from .failures import start_failures

__all__ = ["Lost", "Note", "Survey", "accept_loss", "held", "survey_loss", "tell_accepted_loss"]

_LOG = "events.db"


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Keep a hub from serving the directory meanwhile. Raises StartFailure: one serves it, or it may not be used."""
    with start_failures(), locked(directory):
        yield


def survey_loss(directory: Path) -> Survey:
    """What is lost. Within ``held``. Raises StoreUnavailable: nothing of the log can be read."""
    return event_loss.survey(directory / _LOG)


def accept_loss(directory: Path, seen: Survey, at: float) -> Note:
    """at: Unix seconds. Within the same ``held``. Raises StoreUnavailable: nothing was changed."""
    return event_loss.accept(directory / _LOG, seen, int(at * 1000), _user())


async def tell_accepted_loss(directory: Path, audit: AuditTrail) -> None:
    """What was accepted while no hub ran goes into the audit once one does. Raises StoreUnavailable."""
    note = event_loss.accepted(directory / _LOG)
    if note is None:
        return
    told = "; ".join(note.lost[:20]) or "nothing"
    audit.of_hub("events/accept-loss", f"by {note.by}: {told}; evidence in {note.evidence}")
    await audit.flush()
    event_loss.forget_note(directory / _LOG)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "an unknown user"
