"""What became of credentials after they were proved: a proof from before a change is worth nothing after it.

Between proof and live link lie waits (a stored session, a take-over that is delayed), in which an identity, a policy
or an authority may change. Who opens the link then asks ``since``. Source: limits-and-faults L-I2, L-I3, L-R6.
"""

from collections.abc import Hashable, Iterable, Iterator
from typing import Final, NamedTuple

from hubkeep.errors import HubError
from hubkeep.model import IdentityChange, Principal
from hubkeep.ports import Clock

_KEPT: Final = 600.0  # seconds: longer than anybody is between proof and link


class _Change(NamedTuple):
    number: int
    error: HubError
    at: float


class Changes:
    """count: changes so far; a proof carries the count from before it (``Principal.proved``)."""

    __slots__ = ("_changed", "_clock", "count")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed: dict[Hashable, _Change] = {}
        self.count = 0

    def identity(self, change: IdentityChange, error: HubError) -> None:
        """error: why its links go."""
        for slot in change.slots or ("",):
            self._note(("identity", change.device_id, change.module_id, slot), error)

    def policy(self, name: str, error: HubError) -> None:
        self._note(("policy", name), error)

    def authority(self, name: str, error: HubError) -> None:
        self._note(("authority", name), error)

    def denied(self, marks: Iterable[str], error: HubError) -> None:
        """Certificates that were put on the deny-list."""
        for mark in marks:
            self._note(("mark", mark), error)

    def access(self) -> None:
        """Block or allow lists are others now, which who opens a link asks themselves."""
        self.count += 1

    def since(self, principal: Principal) -> HubError | None:
        """Why the principal's credential is worth nothing any more; None while it is what it was."""
        for subject in _subjects(principal):
            changed = self._changed.get(subject)
            if changed is not None and changed.number > principal.proved:
                return changed.error.again()
        return None

    def forget_old(self) -> None:
        """Call now and then."""
        if self._changed:
            since = self._clock.monotonic() - _KEPT
            self._changed = {subject: each for subject, each in self._changed.items() if each.at > since}

    def _note(self, subject: Hashable, error: HubError) -> None:
        self.count += 1
        self._changed[subject] = _Change(self.count, error, self._clock.monotonic())


def concerns(change: IdentityChange, principal: Principal) -> bool:
    """Whether ``principal`` stands on what changed. A device takes its modules with it, its keys do not."""
    if principal.device_id != change.device_id:
        return False
    if change.slots:
        own = principal.module_id == change.module_id and not principal.policy
        return own and principal.key in change.slots
    return not change.module_id or principal.module_id == change.module_id


def _subjects(principal: Principal) -> Iterator[Hashable]:
    if principal.device_id:
        yield ("identity", principal.device_id, "", "")
        if principal.module_id:
            yield ("identity", principal.device_id, principal.module_id, "")
        if principal.key and not principal.policy:
            yield ("identity", principal.device_id, principal.module_id, principal.key)
    if principal.policy:
        yield ("policy", principal.policy)
    if principal.authority:
        yield ("authority", principal.authority)
    for mark in principal.marks:
        yield ("mark", mark)
